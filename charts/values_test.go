package charts

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestPool(t *testing.T) {
	const key = "IPAddressPool/default"
	for name, tc := range map[string]struct {
		args []string
		want []any
	}{
		"a range":            {[]string{"--set", "pool=192.168.1.240-192.168.1.250"}, []any{"192.168.1.240-192.168.1.250"}},
		"a CIDR":             {[]string{"--set", "pool=fd00:1::/112"}, []any{"fd00:1::/112"}},
		"one address":        {[]string{"--set", "pool=192.168.1.240"}, []any{"192.168.1.240"}},
		"a list":             {[]string{"--set", "pool={10.0.0.0/28,fd00::1-fd00::9}"}, []any{"10.0.0.0/28", "fd00::1-fd00::9"}},
		"a list in a string": {[]string{"--set", `pool=10.0.0.0/28\, fd00::1-fd00::9`}, []any{"10.0.0.0/28", "fd00::1-fd00::9"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, ok := render(t, tc.args...)[key]
			if !ok {
				t.Fatalf("%s is not rendered", key)
			}
			if diff := cmp.Diff(map[string]any{"addresses": tc.want}, o.Object["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
	for _, args := range [][]string{nil, {"--set", "pool="}, {"--set", "pool=null"}} {
		if _, ok := render(t, args...)[key]; ok {
			t.Errorf("%v makes a pool", args)
		}
	}
}

// Each wrong value is refused with words that say which it is and what is right.
func TestWrongValuesAreRefused(t *testing.T) {
	for _, tc := range []struct{ arg, want string }{
		{"--set=poll=192.168.1.0/24", "additional properties 'poll' not allowed"},
		{"--set=apiServer.prot=6443", "at '/apiServer': additional properties 'prot' not allowed"},
		{"--set=pool=300", "at '/pool': got number, want string or array"},
		{"--set=pool=home", `pool: "home" is not a range of addresses: write first-last such as 192.168.1.240-192.168.1.250`},
		{"--set=pool=192.168.1.240-", `pool: "192.168.1.240-" is not a range`},
		{"--set=forwarding=yes", "at '/forwarding': value must be one of 'auto', 'on', 'off'"},
		{"--set=apiServer.host=https://10.0.0.1", `apiServer.host: "https://10.0.0.1" is not a host: write an address or a name alone`},
		{"--set=apiServer.host=10.0.0.1:6443", `apiServer.host: "10.0.0.1:6443" is not a host`},
		{"--set=apiServer.host=[fd00::1]", `apiServer.host: "[fd00::1]" is not a host`},
		{"--set=apiServer.port=65536", "at '/apiServer/port': maximum: got 65,536, want 65,535"},
		{"--set=nodePortAddresses=all", "at '/nodePortAddresses': 'all' does not match pattern '^primary$'"},
		{"--set=controller.replicas=two", "at '/controller/replicas': got string, want integer"},
		{"--set=speaker.maxUnavailable=5x", "at '/speaker/maxUnavailable': '5x' does not match pattern"},
		{"--set=logLevel=trace", "at '/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"},
		{"--set=image.pullPolicy=never", "at '/image/pullPolicy': value must be one of"},
	} {
		_, err := template(chart, tc.arg)
		if err == nil {
			t.Errorf("%s is accepted", tc.arg)
			continue
		}
		if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v\nwant it to say %s", tc.arg, err, tc.want)
		}
	}
}

func TestAPIServerIsToldToBoth(t *testing.T) {
	want := []corev1.EnvVar{
		{Name: "KUBERNETES_SERVICE_HOST", Value: "fd00::10"},
		{Name: "KUBERNETES_SERVICE_PORT", Value: "8443"},
	}
	args := []string{"--set", "apiServer.host=fd00::10", "--set", "apiServer.port=8443"}
	for _, pod := range []corev1.PodTemplateSpec{controllerPod(t, args...), speakerPod(t, args...)} {
		got := slices.DeleteFunc(pod.Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.ValueFrom != nil })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("environment of the %s (-want +got):\n%s", pod.Spec.Containers[0].Name, diff)
		}
	}
}

func TestArguments(t *testing.T) {
	args := []string{
		"--set", "clusterCIDRs={10.244.0.0/16,fd44::/48}", "--set", "nodePortAddresses={192.168.1.0/24,fd00::/64}",
		"--set", "speaker.gossipPort=7000", "--set", "answerEcho=false", "--set", "conntrackTCPBeLiberal=true", "--set", "speaker.gossipSuspicion=4",
		"--set", "speaker.gossipProbeInterval=1s", "--set", "speaker.gossipProbeTimeout=500ms", "--set", "speaker.metricsPort=7001", "--set", "logLevel=debug",
		"--set", "loadBalancerClass=example.com/lan", "--set-json", "forwarding=true",
	}
	wantSpeaker := []string{
		"--forwarding=on",
		"--cluster-cidr=10.244.0.0/16,fd44::/48",
		"--nodeport-addresses=192.168.1.0/24,fd00::/64",
		"--answer-echo=false",
		"--conntrack-tcp-be-liberal=true",
		"--gossip-bind-port=7000",
		"--gossip-probe-interval=1s",
		"--gossip-probe-timeout=500ms",
		"--gossip-suspicion=4",
		"--gossip-key-file=/etc/fairlead/gossip/key",
		"--metrics-bind-address=:7001",
		"--healthz-bind-address=:10256",
		"--proc-sys-net=/host/proc/sys/net",
		"--state-dir=/var/lib/fairlead",
		"--log-level=debug",
	}
	if diff := cmp.Diff(wantSpeaker, speakerPod(t, args...).Spec.Containers[0].Args); diff != "" {
		t.Errorf("arguments of the speaker (-want +got):\n%s", diff)
	}
	wantController := []string{
		"--metrics-bind-address=:8080",
		"--health-probe-bind-address=:8081",
		"--leader-elect=true",
		"--load-balancer-class=example.com/lan",
		"--log-level=debug",
	}
	if diff := cmp.Diff(wantController, controllerPod(t, args...).Spec.Containers[0].Args); diff != "" {
		t.Errorf("arguments of the controller (-want +got):\n%s", diff)
	}
}

// In YAML an unquoted on or off is true or false.
func TestForwardingAsYAMLReadsIt(t *testing.T) {
	for arg, want := range map[string]string{
		"--set=forwarding=off":        "--forwarding=off",
		"--set-json=forwarding=false": "--forwarding=off",
		"--set-json=forwarding=true":  "--forwarding=on",
	} {
		if got := speakerPod(t, arg).Spec.Containers[0].Args[0]; got != want {
			t.Errorf("%s: first argument is %q, want %q", arg, got, want)
		}
	}
}

func TestOptionalObjects(t *testing.T) {
	const policy = "NetworkPolicy/" + namespace + "/fairlead-controller"
	const monitor = "PodMonitor/" + namespace + "/fairlead-speaker"
	byDefault := render(t)
	if byDefault[policy] == nil || byDefault[monitor] != nil {
		t.Errorf("by default: NetworkPolicy %t, PodMonitor %t, want only the first", byDefault[policy] != nil, byDefault[monitor] != nil)
	}
	other := render(t, "--set", "networkPolicy.enabled=false", "--set", "podMonitor.enabled=true", "--set", "podMonitor.labels.release=prometheus")
	if other[policy] != nil || other[monitor] == nil {
		t.Fatalf("switched: NetworkPolicy %t, PodMonitor %t, want only the second", other[policy] != nil, other[monitor] != nil)
	}
	if got := other[monitor].GetLabels()["release"]; got != "prometheus" {
		t.Errorf("label release of the PodMonitor is %q", got)
	}
}

func TestNotes(t *testing.T) {
	unlabelled, labelled := `(dict "metadata" (dict "labels" (dict "a" "b")))`,
		`(dict "metadata" (dict "labels" (dict "pod-security.kubernetes.io/enforce" "privileged")))`
	const label = "kubectl label namespace fairlead-system"
	const makePool = "There is no pool from this chart"
	for name, tc := range map[string]struct {
		namespace   string
		args        []string
		says, omits []string
	}{
		"defaults":  {unlabelled, nil, []string{label, makePool, "helm uninstall fairlead", "--set forwarding=off"}, nil},
		"no labels": {`(dict)`, nil, []string{label}, nil},
		"ready to use": {
			labelled, []string{"--set", "pool={10.0.0.0/28,fd00::/112}"},
			[]string{"the addresses: 10.0.0.0/28 fd00::/112"}, []string{label, makePool},
		},
		"not forwarding": {labelled, []string{"--set", "forwarding=off"}, []string{"forwarding=off)"}, []string{"--set forwarding=off"}},
	} {
		got := notes(t, tc.namespace, tc.args...)
		for _, s := range tc.says {
			if !strings.Contains(got, s) {
				t.Errorf("%s: the notes do not say %q:\n%s", name, s, got)
			}
		}
		for _, s := range tc.omits {
			if strings.Contains(got, s) {
				t.Errorf("%s: the notes say %q:\n%s", name, s, got)
			}
		}
	}
}

// notes returns NOTES.txt as it would be printed in a cluster whose namespace is what a template expression says. Helm prints
// them only when it installs, for which it wants a cluster, so a copy of the chart renders them as an object.
func notes(t *testing.T, namespaceExpression string, args ...string) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(copied, "templates", "NOTES.txt")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const lookup = `lookup "v1" "Namespace" "" $ns`
	if !strings.Contains(string(text), lookup) {
		t.Fatalf("NOTES.txt does not %s", lookup)
	}
	object := `{{- define "notes" -}}` + strings.Replace(string(text), lookup, namespaceExpression, 1) + `{{- end -}}
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"notes": {{ include "notes" . | toJson }}}}`
	if err := os.WriteFile(filepath.Join(copied, "templates", "notes.yaml"), []byte(object), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := template(copied, append(args, "--show-only", "templates/notes.yaml")...)
	if err != nil {
		t.Fatal(err)
	}
	var m corev1.ConfigMap
	decode(t, out).get(t, "ConfigMap/notes", &m)
	return m.Data["notes"]
}
