package main

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/config"
)

// BenchmarkPass is what one pass costs when nothing changed: reading 10,000 Services from memory, and deciding.
func BenchmarkPass(b *testing.B) {
	const n = 10000
	pool := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "big"}}
	pool.Spec.Addresses = []v1beta1.AddressRange{"10.128.0.0/15"}
	w := world{now: time.Unix(0, 0), pools: []v1beta1.IPAddressPool{pool}}
	w.config, w.problems = config.Read(config.Objects{Pools: w.pools})
	var services []*corev1.Service
	for i := range n {
		service := loadBalancer(fmt.Sprintf("s%05d", i))
		service.UID = types.UID(fmt.Sprint("uid", i))
		service.ResourceVersion = "1"
		services = append(services, service)
	}
	memory := newMemory()
	w.services = memory.read(services, "")
	for i, change := range decide(w, nil).services {
		services[i] = change.applied()
		services[i].ResourceVersion = "2"
	}
	b.ReportAllocs()
	for b.Loop() {
		w.services = memory.read(services, "")
		o := decide(w, nil)
		w.terms, w.leases = o.terms, o.leases
	}
}
