package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Product is what the header Server of every answer says.
const Product = "fairlead"

// Mode is what /proxyMode answers: those who ask know the modes of kube-proxy, and this is how we forward.
const Mode = "nftables"

func (s *Server) handler(at socket) http.Handler {
	next := s.answers(at)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", Product)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) answers(at socket) http.Handler {
	if at.service != "" {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.answerCheck(w, at.service) })
	}
	mux := http.NewServeMux()
	if at.status {
		mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { s.answerText(w, "ok") })
		mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { s.answerText(w, Mode) })
		if s.metrics != nil {
			mux.Handle("/metrics", s.metrics)
		}
		return mux
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { s.answerProxy(w, true) })
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { s.answerProxy(w, false) })
	return mux
}

func (s *Server) answerText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.say(w.Write([]byte(text)))
}

// healthy tells whether no change waits for too long. The caller holds the lock.
func (s *Server) healthy(now time.Time) bool {
	return s.pending.IsZero() || now.Sub(s.pending) < s.late
}

// checkBody is kube-proxy's answer, indented by tabs and without a newline at the end.
const checkBody = `{
	"service": {
		"namespace": %q,
		"name": %q
	},
	"localEndpoints": %d,
	"serviceProxyHealthy": %v
}`

// answerCheck answers a health check node port, on any path.
func (s *Server) answerCheck(w http.ResponseWriter, service string) {
	s.mu.Lock()
	count := s.counts[service]
	healthy := s.healthy(s.now())
	s.mu.Unlock()
	namespace, name := split(service)
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(count))
	head(w, count > 0 && healthy)
	s.say(fmt.Fprintf(w, checkBody, namespace, name, count, healthy))
}

func split(service string) (namespace, name string) {
	for i := range service {
		if service[i] == '/' {
			return service[:i], service[i+1:]
		}
	}
	return "", service
}

func head(w http.ResponseWriter, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if ok {
		w.WriteHeader(http.StatusOK)
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// say notes an answer that did not get through: whoever asked is gone.
func (s *Server) say(_ int, err error) {
	if err != nil {
		s.log.Debug("health check not answered", "error", err)
	}
}

// proxyHealth is the body of /healthz and /livez.
type proxyHealth struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyHealth `json:"status,omitempty"`
}

type familyHealth struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// answerProxy answers /healthz, which minds the node's eligibility, or /livez,
// which does not. Both families are always updated together.
func (s *Server) answerProxy(w http.ResponseWriter, withNode bool) {
	s.mu.Lock()
	now := s.now()
	h := proxyHealth{LastUpdated: s.updated, CurrentTime: now, Healthy: s.healthy(now), Status: map[string]familyHealth{}}
	if !s.updated.IsZero() {
		for _, f := range []string{"IPv4", "IPv6"} {
			h.Status[f] = familyHealth{LastUpdated: s.updated, Healthy: h.Healthy}
		}
	}
	ok := h.Healthy
	if withNode {
		eligible := s.eligible
		h.NodeEligible = &eligible
		ok = ok && eligible
	}
	s.mu.Unlock()
	if ok {
		h.LastUpdated = now // as old versions of kube-proxy said it
	}
	body, err := json.Marshal(h)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	head(w, ok)
	s.say(w.Write(body))
}
