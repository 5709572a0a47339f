// Package e2e tests Fairlead from end to end on the lab: a real Kubernetes
// cluster in network namespaces of this machine, made by e2e/lab. The tests
// share one lab, so they run one after the other and each removes what it made.
//
// Out of scope: what the tests of a single room can show.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// labBinary is e2e/lab, built once for all tests; checkout is the folder with go.mod.
var labBinary, checkout string

// cluster reads and writes the lab's API server; clusterConfig says where it is.
var (
	cluster       client.Client
	clusterConfig *rest.Config
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("the end-to-end tests need root and the lab: left out by -short")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := setUp(dir); err != nil {
		fmt.Fprintln(os.Stderr, "set up the lab:", err)
		return 1
	}
	return m.Run()
}

// setUp makes the lab with Fairlead installed, as `make lab` does.
func setUp(dir string) error {
	var err error
	if checkout, err = filepath.Abs(".."); err != nil {
		return err
	}
	labBinary = filepath.Join(dir, "lab")
	build := exec.Command("go", "build", "-o", labBinary, "./lab")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the lab: %w\n%s", err, out)
	}
	demo := exec.Command(labBinary, "demo")
	demo.Dir, demo.Stdout, demo.Stderr = checkout, os.Stdout, os.Stderr
	if err := demo.Run(); err != nil {
		return fmt.Errorf("lab demo: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(checkout, ".lab", "kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1 // the benchmark measures the API server, not its client
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := v1beta1.AddToScheme(scheme); err != nil {
		return err
	}
	clusterConfig = config
	cluster, err = client.New(config, client.Options{Scheme: scheme})
	return err
}

// lab runs a command of the lab and returns what it printed.
func lab(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryLab(t.Context(), args...)
	if err != nil {
		t.Fatalf("lab %v: %v\n%s", args, err, out)
	}
	return out
}

func tryLab(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, labBinary, args...)
	cmd.Dir = checkout
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// fetch gets a URL from a host of the lab by a new connection.
func fetch(ctx context.Context, host, url string) (string, error) {
	return tryLab(ctx, "exec", host, "--", "curl", "-sS", "--fail", "--max-time", "3", url)
}

// eventually waits until check returns nil and fails with its last error after the time limit.
func eventually(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	every(t, 200*time.Millisecond, limit, what, check)
}

// every is eventually with a pause between checks, for those that cost much themselves.
func every(t *testing.T, pause, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // a check that was cut off knows less than the one before
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, limit, last)
		}
	}
}

// create creates objects and removes them when the test ends. One of the same name that is just being removed is waited for.
func create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		eventually(t, 30*time.Second, fmt.Sprintf("%T %s is made", object, object.GetName()), func(ctx context.Context) error {
			err := cluster.Create(ctx, object)
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatalf("create %T %s: %v", object, object.GetName(), err)
			}
			return err
		})
		t.Cleanup(func() {
			// The test's own context has ended by now.
			err := cluster.Delete(context.Background(), object, client.PropagationPolicy("Foreground"), client.GracePeriodSeconds(0))
			if client.IgnoreNotFound(err) != nil {
				t.Errorf("delete %T %s: %v", object, object.GetName(), err)
			}
		})
	}
}

// service reads a Service anew.
func service(ctx context.Context, name string) (*corev1.Service, error) {
	var svc corev1.Service
	err := cluster.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &svc)
	return &svc, err
}
