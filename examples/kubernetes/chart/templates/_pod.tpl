{{- define "orders.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: orders
    image: {{ .Values.image | quote }}
    ports:
      - name: http
        containerPort: 8080
    readinessProbe:
      httpGet:
        path: /ready
        port: http
    resources:
      requests:
        cpu: 100m
        memory: 128Mi
      limits:
        memory: 128Mi
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities:
        drop: ["ALL"]
{{- end }}
