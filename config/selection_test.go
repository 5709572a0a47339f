package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

func TestReadSelection(t *testing.T) {
	for _, test := range []struct {
		key, value string
		want       config.Selection
		problem    string
	}{
		{"other", "consistent-hash", config.Random, ""},
		{"fairlead.dev/backend-selection", "", config.Random, ""},
		{"fairlead.dev/backend-selection", "random", config.Random, ""},
		{"fairlead.dev/backend-selection", "consistent-hash", config.ConsistentHash, ""},
		{"fairlead.dev/backend-selection", " consistent-hash\n", config.ConsistentHash, ""},
		{"fairlead.dev/backend-selection", "Maglev", config.Random,
			`service/shop/web: backend-selection is "Maglev", so endpoints are chosen at random: write random or consistent-hash`},
		{"fairlead.dev/backend-selection", strings.Repeat("\x00", 2), config.Random,
			`service/shop/web: backend-selection is "\x00\x00", so endpoints are chosen at random: write random or consistent-hash`},
	} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{test.key: test.value}}}
		got, problems := config.ReadSelection(svc)
		if got != test.want {
			t.Errorf("%s: %q is %d, want %d", test.key, test.value, got, test.want)
		}
		var said string
		for _, p := range problems {
			said += p.String()
			if p.Reason != v1beta1.ReasonBackendSelectionInvalid {
				t.Errorf("%q: the reason is %s", test.value, p.Reason)
			}
		}
		if diff := cmp.Diff(test.problem, said); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.value, diff)
		}
	}
}
