package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// secretCache is a cache with Secrets, by name, and nothing else.
type secretCache struct {
	cache.Cache // nil: what is not below must not be called
	data        map[string]map[string][]byte
	err         error
}

func (c *secretCache) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if c.err != nil {
		return c.err
	}
	data, found := c.data[key.Name]
	if !found || key.Namespace != "fairlead-system" {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
	}
	into.(*corev1.Secret).Data = data
	return nil
}

func newPasswords(c *secretCache) *passwords {
	return &passwords{
		log: slog.New(slog.DiscardHandler), namespace: "fairlead-system", bell: make(chan struct{}, 1),
		secrets: c, opening: true, open: true,
	}
}

// What Secrets say is known; what is the matter with others is said, and never is an empty password known.
func TestPasswords(t *testing.T) {
	c := &secretCache{data: map[string]map[string][]byte{
		"good":     {"password": []byte("s3cret"), "username": []byte("any")},
		"empty":    {"password": nil},
		"other":    {"pass": []byte("s3cret")},
		"long":     {"password": []byte(strings.Repeat("x", 81))},
		"longest":  {"password": []byte(strings.Repeat("x", 80))},
		"newlines": {"password": []byte("s3cret\n")},
	}}
	p := newPasswords(c)
	have := p.of(t.Context(), []string{"good", "empty", "other", "long", "longest", "missing", "newlines"})
	want := map[string]string{"good": "s3cret", "longest": strings.Repeat("x", 80), "newlines": "s3cret"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("passwords (-want +got):\n%s", diff)
	}
	for name, why := range map[string]string{
		"good": "", "longest": "",
		"empty":   "the Secret fairlead-system/empty has nothing under the key password",
		"other":   "the Secret fairlead-system/other has nothing under the key password",
		"long":    "the password in the Secret fairlead-system/long has 81 bytes: TCP MD5 takes at most 80",
		"missing": "there is no Secret fairlead-system/missing: make it, with the password under the key password",
		"unasked": "the Secret fairlead-system/unasked has not been read yet",
	} {
		if got := p.missing(name); got != why {
			t.Errorf("%s: %q, want %q", name, got, why)
		}
	}
	if p.of(t.Context(), nil) != nil {
		t.Error("passwords without Secrets")
	}
}

// A password that changed counts, one whose Secret is gone no more, and while Secrets cannot be read what was known stays.
func TestPasswordsChange(t *testing.T) {
	c := &secretCache{data: map[string]map[string][]byte{"router": {"password": []byte("one")}}}
	p := newPasswords(c)
	steps := []struct {
		change func()
		want   string
	}{
		{func() {}, "one"},
		{func() { c.data["router"]["password"] = []byte("two") }, "two"},
		{func() { c.err = errors.New("the cache is closed") }, "two"},
		{func() { c.err = nil; delete(c.data, "router") }, ""},
		{func() { c.data["router"] = map[string][]byte{"password": []byte("three")} }, "three"},
		{func() { c.data["router"]["password"] = nil }, ""},
	}
	for i, step := range steps {
		step.change()
		have, known := p.of(t.Context(), []string{"router"})["router"]
		if have != step.want || known != (step.want != "") || (p.missing("router") == "") != known {
			t.Errorf("step %d: %q, known: %t, missing: %q; want %q", i, have, known, p.missing("router"), step.want)
		}
	}
}

// Before there is an API server nothing is known, nobody waits, and the reason says so.
func TestPasswordsBeforeTheAPIServer(t *testing.T) {
	p := &passwords{log: slog.New(slog.DiscardHandler), namespace: "fairlead-system"}
	if have := p.of(t.Context(), []string{"router"}); len(have) != 0 {
		t.Errorf("%v", have)
	}
	if got, want := p.missing("router"), "the Secret fairlead-system/router has not been read yet"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Of a Secret the cache keeps the password alone.
func TestStripSecret(t *testing.T) {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "router", Annotations: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}},
		Data:       map[string][]byte{"password": []byte("s3cret"), "tls.key": []byte("private")},
	}
	got, err := stripSecret(secret)
	want := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "router"}, Data: map[string][]byte{"password": []byte("s3cret")}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := stripSecret("a tombstone"); got != "a tombstone" || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
