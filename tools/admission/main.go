// Applies a MutatingAdmissionPolicy to a pod that is created, with the code of the API server, and prints the pod. It
// takes the selector for objects, match conditions, variables and JSON patches. It refuses what it does not apply.
//
// Usage: admission POLICY POD. The policy is the first document of its file. A pod that does not match stays as it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	celgo "github.com/google/cel-go/cel"
	"k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

// A server of Kubernetes 1.34 takes new policies with what the CEL of 1.33 knows.
var celVersion = version.MajorMinor(1, 33)

// The first document of a file. Fields that the type lacks are refused.
func read(path string, into any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var raw runtime.RawExtension
	if err := utilyaml.NewYAMLOrJSONDecoder(file, 1<<20).Decode(&raw); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := yaml.UnmarshalStrict(raw.Raw, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// The request that creates the pod.
func attributes(pod *corev1.Pod) *admission.VersionedAttributes {
	kind := corev1.SchemeGroupVersion.WithKind("Pod")
	resource := corev1.SchemeGroupVersion.WithResource("pods")
	record := admission.NewAttributesRecord(pod, nil, kind, pod.Namespace, pod.Name, resource, "", admission.Create,
		&metav1.CreateOptions{}, false, nil)
	return &admission.VersionedAttributes{
		Attributes: record, VersionedKind: kind,
		VersionedObject: admission.NewLazyObject(pod), VersionedOldObject: admission.NewLazyObject(nil),
	}
}

func compilerOf(policy *v1.MutatingAdmissionPolicy) (*cel.CompositedCompiler, error) {
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(celVersion))
	if err != nil {
		return nil, err
	}
	for _, variable := range policy.Spec.Variables {
		accessor := &named{variable}
		result := compiler.CompileAndStoreVariable(accessor, cel.OptionalVariableDeclarations{}, environment.NewExpressions)
		if result.Error != nil {
			return nil, fmt.Errorf("variable %s: %w", variable.Name, result.Error)
		}
	}
	return compiler, nil
}

// A variable of a policy, as the compiler takes it.
type named struct{ v1.Variable }

func (n *named) GetName() string            { return n.Name }
func (n *named) GetExpression() string      { return n.Expression }
func (n *named) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.AnyType} }

func matches(compiler *cel.CompositedCompiler, policy *v1.MutatingAdmissionPolicy, pod *corev1.Pod) (bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(policy.Spec.MatchConstraints.ObjectSelector)
	if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
		return false, err
	}
	var conditions []cel.ExpressionAccessor
	for i := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[i]))
	}
	evaluator := compiler.CompileCondition(conditions, cel.OptionalVariableDeclarations{}, environment.NewExpressions)
	if errs := evaluator.CompilationErrors(); len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	fail := v1.Fail
	matcher := matchconditions.NewMatcher(evaluator, &fail, "policy", "mutate", policy.Name)
	result := matcher.Match(compiler.CreateContext(context.Background()), attributes(pod), nil, nil)
	return result.Matches, result.Error
}

func apply(policy *v1.MutatingAdmissionPolicy, pod *corev1.Pod) (*corev1.Pod, error) {
	if policy.Spec.ParamKind != nil {
		return nil, errors.New("paramKind is not applied here")
	}
	compiler, err := compilerOf(policy)
	if err != nil {
		return nil, err
	}
	if is, err := matches(compiler, policy, pod); err != nil || !is {
		return pod, err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	for _, mutation := range policy.Spec.Mutations {
		if mutation.PatchType != v1.PatchTypeJSONPatch {
			return nil, fmt.Errorf("patches of the type %s are not applied here", mutation.PatchType)
		}
		evaluator := compiler.CompileMutatingEvaluator(&patch.JSONPatchCondition{Expression: mutation.JSONPatch.Expression},
			cel.OptionalVariableDeclarations{HasPatchTypes: true}, environment.NewExpressions)
		patched, err := patch.NewJSONPatcher(evaluator).Patch(compiler.CreateContext(context.Background()), patch.Request{
			MatchedResource:     corev1.SchemeGroupVersion.WithResource("pods"),
			VersionedAttributes: attributes(pod),
			ObjectInterfaces:    admission.NewObjectInterfacesFromScheme(scheme),
		}, celconfig.RuntimeCELCostBudget)
		if err != nil {
			return nil, err
		}
		pod = patched.(*corev1.Pod)
	}
	return pod, nil
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: admission POLICY POD")
	}
	policy, pod := &v1.MutatingAdmissionPolicy{}, &corev1.Pod{}
	if err := errors.Join(read(os.Args[1], policy), read(os.Args[2], pod)); err != nil {
		return err
	}
	mutated, err := apply(policy, pod)
	if err != nil {
		return err
	}
	mutated.APIVersion, mutated.Kind = "v1", "Pod"
	text, err := yaml.Marshal(mutated)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
		os.Exit(1)
	}
}
