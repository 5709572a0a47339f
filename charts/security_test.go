package charts

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// everything sets each value that adds something to a pod.
var everything = []string{
	"--set", "pool=192.168.1.240-192.168.1.250", "--set", "apiServer.host=192.168.1.10", "--set", "forwarding=on",
}

func controllerPod(t *testing.T, args ...string) corev1.PodTemplateSpec {
	t.Helper()
	var d appsv1.Deployment
	render(t, args...).get(t, "Deployment/"+namespace+"/fairlead-controller", &d)
	return d.Spec.Template
}

func speakerPod(t *testing.T, args ...string) corev1.PodTemplateSpec {
	t.Helper()
	var d appsv1.DaemonSet
	render(t, args...).get(t, "DaemonSet/"+namespace+"/fairlead-speaker", &d)
	return d.Spec.Template
}

func TestControllerIsRestricted(t *testing.T) {
	for name, args := range map[string][]string{"defaults": nil, "everything set": everything} {
		pod := controllerPod(t, args...)
		if got := violations(t, api.LevelRestricted, pod); len(got) > 0 {
			t.Errorf("%s: the pod does not satisfy the restricted Pod Security Standard: %v", name, got)
		}
	}
}

// The speaker leaves the baseline standard in these points only.
func TestSpeakerNeedsNoMoreThanTheNetwork(t *testing.T) {
	want := map[string]string{
		"host namespaces":          "hostNetwork=true",
		"non-default capabilities": `container "speaker" must not include "NET_ADMIN", "NET_RAW" in securityContext.capabilities.add`,
		"hostPath volumes":         `volumes "proc-sys-net", "state"`,
	}
	if diff := cmp.Diff(want, violations(t, api.LevelBaseline, speakerPod(t))); diff != "" {
		t.Errorf("what the speaker does beyond the baseline Pod Security Standard (-want +got):\n%s", diff)
	}
}

// violations are what keeps a pod out of a namespace that enforces a Pod Security Standard, by reason.
func violations(t *testing.T, level api.Level, pod corev1.PodTemplateSpec) map[string]string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	latest := api.LevelVersion{Level: level, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(latest, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			got[result.ForbiddenReason] = result.ForbiddenDetail
		}
	}
	return got
}

func TestSpeakerSecurity(t *testing.T) {
	yes, no, root := true, false, int64(0)
	want := &corev1.SecurityContext{
		RunAsUser:                &root,
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   &yes,
		Capabilities: &corev1.Capabilities{
			Drop: []corev1.Capability{"ALL"},
			Add:  []corev1.Capability{"NET_ADMIN", "NET_RAW"},
		},
	}
	for name, args := range map[string][]string{"defaults": nil, "everything set": everything} {
		pod := speakerPod(t, args...).Spec
		if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Errorf("%s: hostNetwork, hostPID, hostIPC = %t, %t, %t, want only the first", name, pod.HostNetwork, pod.HostPID, pod.HostIPC)
		}
		if got := pod.SecurityContext.SeccompProfile.Type; got != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: seccomp profile is %s", name, got)
		}
		if len(pod.InitContainers)+len(pod.Containers) != 1 {
			t.Errorf("%s: %d init containers and %d containers, want one container", name, len(pod.InitContainers), len(pod.Containers))
		}
		for _, c := range pod.Containers {
			if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
				t.Errorf("%s: security context of container %s (-want +got):\n%s", name, c.Name, diff)
			}
		}
	}
}

func TestSpeakerRunsOnEveryNode(t *testing.T) {
	pod := speakerPod(t).Spec
	if diff := cmp.Diff([]corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"kubernetes.io/os": "linux"}, pod.NodeSelector); diff != "" {
		t.Errorf("node selector (-want +got):\n%s", diff)
	}
	if got, want := pod.PriorityClassName, "system-node-critical"; got != want {
		t.Errorf("priority class is %q, want %q", got, want)
	}
}

// Nothing but our own binary is in the images: no container can call a shell, nft or ip.
func TestContainersRunTheirImagesOnly(t *testing.T) {
	want := map[string][]string{
		"controller": {"fairlead.dev/controller:0.1.0"},
		"speaker":    {"fairlead.dev/speaker:0.1.0"},
	}
	got := map[string][]string{}
	for _, pod := range []corev1.PodTemplateSpec{controllerPod(t, everything...), speakerPod(t, everything...)} {
		for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
			got[c.Name] = append([]string{c.Image}, c.Command...)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images and commands (-want +got):\n%s", diff)
	}
}

func TestSelectorsMatchTheirPods(t *testing.T) {
	var deployment appsv1.Deployment
	var daemonSet appsv1.DaemonSet
	all := render(t)
	all.get(t, "Deployment/"+namespace+"/fairlead-controller", &deployment)
	all.get(t, "DaemonSet/"+namespace+"/fairlead-speaker", &daemonSet)
	for component, pair := range map[string]struct {
		selector *metav1.LabelSelector
		pod      corev1.PodTemplateSpec
	}{
		"controller": {deployment.Spec.Selector, deployment.Spec.Template},
		"speaker":    {daemonSet.Spec.Selector, daemonSet.Spec.Template},
	} {
		want := map[string]string{"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": component}
		if diff := cmp.Diff(want, pair.selector.MatchLabels); diff != "" {
			t.Errorf("selector of the %s (-want +got):\n%s", component, diff)
		}
		if diff := cmp.Diff(want, pair.pod.Labels); diff != "" {
			t.Errorf("labels of the %s's pods (-want +got):\n%s", component, diff)
		}
	}
}
