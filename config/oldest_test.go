package config_test

import (
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// TestOldestKubernetes compiles every rule with what Kubernetes 1.31 knows, the oldest version we say we run on.
func TestOldestKubernetes(t *testing.T) {
	oldest := environment.MustBaseEnvSet(version.MajorMinor(1, 31))
	rules := 0
	for kind, crd := range readCRDs(t) {
		structural, err := schema.NewStructural(crd.Spec.Validation.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		walk(structural, func(s *schema.Structural) {
			if len(s.XValidations) == 0 {
				return
			}
			results, err := cel.Compile(s, model.SchemaDeclType(s, false), celconfig.PerCallLimit, oldest, cel.NewExpressionsEnvLoader())
			if err != nil {
				t.Fatal(err)
			}
			for i, result := range results {
				rules++
				if result.Error != nil || result.MessageExpressionError != nil {
					t.Errorf("%s: %s: %v %v", kind, s.XValidations[i].Rule, result.Error, result.MessageExpressionError)
				}
			}
		})
	}
	if rules == 0 {
		t.Error("there are no rules")
	}
}

// walk calls a function for a schema and everything in it.
func walk(s *schema.Structural, visit func(*schema.Structural)) {
	visit(s)
	for _, property := range s.Properties {
		walk(&property, visit)
	}
	if s.Items != nil {
		walk(s.Items, visit)
	}
}
