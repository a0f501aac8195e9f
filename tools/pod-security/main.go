// Evaluates each pod of rendered files at the level restricted of the pod security standards, as the API server does:
// at the latest version, and at v1.27, the oldest Kubernetes that the chart supports.
//
// Usage: pod-security DIRECTORY, where a file may be at any depth. Exits with 1 if a pod is not restricted, or if there
// is none.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// The fields of an object that may lead to a pod: a Pod's own, and those of objects with a template.
type object struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		corev1.PodSpec `json:",inline"`
		Template       *corev1.PodTemplateSpec `json:"template"`
		JobTemplate    *struct {
			Spec struct {
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// The pod that an object makes, if it makes one.
func podOf(o *object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	switch o.Kind {
	case "Pod":
		return &o.Metadata, &o.Spec.PodSpec
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job":
		return &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case "CronJob":
		template := &o.Spec.JobTemplate.Spec.Template
		return &template.ObjectMeta, &template.Spec
	}
	return nil, nil
}

// Versions that the pods are evaluated at.
var versions = []api.Version{api.LatestVersion(), api.MajorMinorVersion(1, 27)}

func evaluate(path string, evaluator policy.Evaluator) (pods, refused int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 1<<20)
	for {
		var o object
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			return pods, refused, nil
		} else if err != nil {
			return pods, refused, fmt.Errorf("%s: %w", path, err)
		}
		metadata, spec := podOf(&o)
		if spec == nil {
			continue
		}
		pods++
		for _, version := range versions {
			level := api.LevelVersion{Level: api.LevelRestricted, Version: version}
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, metadata, spec))
			if !result.Allowed {
				refused++
				fmt.Printf("%s: %s %s: not %s: %s\n", path, o.Kind, o.Metadata.Name, level, result.ForbiddenDetail())
			}
		}
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: pod-security DIRECTORY")
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	pods, refused := 0, 0
	err = filepath.WalkDir(os.Args[1], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found, not, err := evaluate(path, evaluator)
		pods, refused = pods+found, refused+not
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d pods, %d refusals\n", pods, refused)
	if pods == 0 || refused > 0 {
		return errors.New("not all pods are restricted")
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
