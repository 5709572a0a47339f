package health

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func server(t *testing.T, c *clock) *Server {
	t.Helper()
	s := New(Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: c.now})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// free is a port nobody listens on.
func free(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func get(t *testing.T, port uint16, path string) (int, http.Header, string) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

func TestCheck(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	s := server(t, c)
	port := free(t)
	want := func(n int) Want {
		return Want{Addresses: loopback, Checks: []Check{{"shop", "web", port, n}}}
	}
	if p := s.Apply(t.Context(), want(2)); len(p) > 0 {
		t.Fatal(p)
	}
	code, header, body := get(t, port, "/any/path")
	const wantBody = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
	if diff := cmp.Diff(wantBody, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	got := []string{header.Get("Content-Type"), header.Get("X-Content-Type-Options"), header.Get("X-Load-Balancing-Endpoint-Weight"), fmt.Sprint(code)}
	if diff := cmp.Diff([]string{"application/json", "nosniff", "2", "200"}, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	s.Apply(t.Context(), want(0))
	if code, header, _ := get(t, port, "/"); code != 503 || header.Get("X-Load-Balancing-Endpoint-Weight") != "0" {
		t.Errorf("without endpoints: %d", code)
	}
	s.Apply(t.Context(), want(1))
	s.Queued()
	c.t = c.t.Add(59 * time.Second)
	s.Queued()
	if code, _, _ := get(t, port, "/"); code != 200 {
		t.Errorf("a change that waits a little: %d", code)
	}
	c.t = c.t.Add(time.Second)
	if code, _, _ := get(t, port, "/"); code != 503 {
		t.Errorf("a change that waits for too long: %d", code)
	}
	s.Updated()
	if code, _, _ := get(t, port, "/"); code != 200 {
		t.Errorf("updated: %d", code)
	}
}

func TestPortsMove(t *testing.T) {
	s := server(t, &clock{time.Unix(1000, 0)})
	a, b := free(t), free(t)
	one := Check{"shop", "one", a, 1}
	two := Check{"shop", "two", a, 2}
	if p := s.Apply(t.Context(), Want{Addresses: loopback, Checks: []Check{two}}); len(p) > 0 {
		t.Fatal(p)
	}
	problems := s.Apply(t.Context(), Want{Addresses: loopback, Checks: []Check{one, two}})
	if len(problems) != 1 || problems[0].Service != "shop/one" {
		t.Errorf("who has the port must keep it: %v", problems)
	}
	two.Port = b
	problems = s.Apply(t.Context(), Want{Addresses: loopback, Checks: []Check{one, two}})
	if len(problems) > 0 {
		t.Errorf("the port is free now: %v", problems)
	}
	for port, weight := range map[uint16]string{a: "1", b: "2"} {
		if _, h, _ := get(t, port, "/healthz"); h.Get("X-Load-Balancing-Endpoint-Weight") != weight {
			t.Errorf("port %d: weight %s", port, h.Get("X-Load-Balancing-Endpoint-Weight"))
		}
	}
	s.Apply(t.Context(), Want{})
	if _, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", a)); err == nil {
		t.Error("still open")
	}
}

func TestProxy(t *testing.T) {
	c := &clock{time.Unix(1000, 0).UTC()}
	s := server(t, c)
	port := free(t)
	want := Want{Proxy: fmt.Sprintf("127.0.0.1:%d", port), NodeEligible: true}
	s.Apply(t.Context(), want)
	s.Updated()
	c.t = c.t.Add(time.Second)
	for _, step := range []struct {
		name            string
		do              func()
		healthz, livez  int
		fresh, eligible bool
	}{
		{"all well", func() {}, 200, 200, true, true},
		{"node goes", func() { want.NodeEligible = false; s.Apply(t.Context(), want) }, 503, 200, false, false},
		{"late", func() {
			want.NodeEligible = true
			s.Apply(t.Context(), want)
			s.Queued()
			c.t = c.t.Add(time.Hour)
		}, 503, 503, false, true},
		{"done", s.Updated, 200, 200, true, true},
	} {
		step.do()
		code, _, body := get(t, port, "/healthz")
		if code != step.healthz {
			t.Errorf("%s: healthz %d", step.name, code)
		}
		if code, _, _ := get(t, port, "/livez"); code != step.livez {
			t.Errorf("%s: livez %d", step.name, code)
		}
		var h proxyHealth
		if err := json.Unmarshal([]byte(body), &h); err != nil {
			t.Fatal(err)
		}
		if h.LastUpdated.Equal(c.t) != step.fresh || *h.NodeEligible != step.eligible || len(h.Status) != 2 {
			t.Errorf("%s: %s", step.name, body)
		}
	}
	if code, _, _ := get(t, port, "/other"); code != 404 {
		t.Errorf("another path: %d", code)
	}
}

func TestStatus(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("numbers")) })
	s := New(Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now, Metrics: metrics})
	t.Cleanup(func() { _ = s.Close() })
	port := free(t)
	want := Want{Status: fmt.Sprintf("127.0.0.1:%d", port)}
	if p := s.Apply(t.Context(), want); len(p) > 0 {
		t.Fatal(p)
	}
	for path, want := range map[string]string{"/proxyMode": "200 nftables", "/healthz": "200 ok", "/metrics": "200 numbers", "/": "404 404 page not found\n"} {
		code, header, body := get(t, port, path)
		if got := fmt.Sprint(code, " ", body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if header.Get("Server") != Product {
			t.Errorf("%s: nobody can tell that the answer is ours: %v", path, header)
		}
	}
	other := server(t, &clock{})
	problems := other.Apply(t.Context(), want)
	if len(problems) != 1 || problems[0].Service != "" {
		t.Errorf("a taken port is a problem: %v", problems)
	}
	s.Apply(t.Context(), Want{})
	if p := other.Apply(t.Context(), want); len(p) > 0 {
		t.Errorf("the port is free now: %v", p)
	}
}
