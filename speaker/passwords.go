package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// passwordKey is where a Secret has a peer's password; longestPassword is what TCP MD5 can take.
const (
	passwordKey     = "password"
	longestPassword = 80
)

// passwords knows the passwords of peers. Secrets are watched from the first time on that a
// peer needs one, in our own namespace only, and of each nothing but the password is kept. What was
// read once is known for as long as the process lives; nothing is written to disk.
type passwords struct {
	log       *slog.Logger
	namespace string
	bell      chan<- struct{}

	mu      sync.Mutex
	secrets cache.Cache // nil until the API server was reached
	opening bool
	open    bool              // the Secrets are in the cache
	known   map[string]string // by Secret
	no      map[string]string // why a Secret has none, by Secret
}

// use hands over the cache to read from, once it works. A second one takes the place of the first.
func (p *passwords) use(secrets cache.Cache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets, p.opening, p.open = secrets, false, false
}

// of returns the passwords of those Secrets that have one. It never waits for the API server.
func (p *passwords) of(ctx context.Context, names []string) map[string]string {
	if len(names) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secrets != nil && !p.opening {
		p.opening = true
		go p.watch(context.WithoutCancel(ctx), p.secrets)
	}
	found := map[string]string{}
	for _, name := range names {
		if p.open {
			p.read(ctx, name)
		}
		if password, ok := p.known[name]; ok {
			found[name] = password
		}
	}
	return found
}

// missing says why a Secret's password is not known; "" if it is.
func (p *passwords) missing(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[name]; ok {
		return ""
	}
	if why := p.no[name]; why != "" {
		return why
	}
	return fmt.Sprintf("the Secret %s/%s has not been read yet", p.namespace, name)
}

// watch fills the cache, which waits until the API server answers.
func (p *passwords) watch(ctx context.Context, secrets cache.Cache) {
	err := watchOne(ctx, secrets, &corev1.Secret{}, func(client.Object) { ring(p.bell) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secrets != secrets {
		return
	}
	if err != nil {
		p.log.Error("read the peers' passwords", "error", err)
	}
	p.open, p.opening = err == nil, err == nil
	ring(p.bell)
}

// read takes one Secret from the cache. The lock is held.
func (p *passwords) read(ctx context.Context, name string) {
	var secret corev1.Secret
	err := p.secrets.Get(ctx, types.NamespacedName{Namespace: p.namespace, Name: name}, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		p.log.Error("read a peer's password", "secret", name, "error", err)
		return // what was known stays
	}
	password := strings.TrimRight(string(secret.Data[passwordKey]), "\r\n") // a file's last line end; no router can have one
	why := ""
	switch {
	case err != nil:
		why = fmt.Sprintf("there is no Secret %s/%s: make it, with the password under the key %s", p.namespace, name, passwordKey)
	case password == "":
		why = fmt.Sprintf("the Secret %s/%s has nothing under the key %s", p.namespace, name, passwordKey)
	case len(password) > longestPassword:
		why = fmt.Sprintf("the password in the Secret %s/%s has %d bytes: TCP MD5 takes at most %d", p.namespace, name, len(password), longestPassword)
	}
	if p.known == nil {
		p.known, p.no = map[string]string{}, map[string]string{}
	}
	delete(p.known, name)
	delete(p.no, name)
	if why != "" {
		p.no[name] = why
		return
	}
	p.known[name] = password
}

// stripSecret keeps the password and nothing else.
func stripSecret(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok {
		secret.ManagedFields, secret.Annotations, secret.StringData = nil, nil, nil
		secret.Data = map[string][]byte{passwordKey: secret.Data[passwordKey]}
	}
	return object, nil
}
