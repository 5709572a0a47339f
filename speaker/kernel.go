package main

import (
	"runtime"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/nft"
)

// prepareKernel makes conntrack's settings, once: they appear with the first rule that uses it.
func (f *forwarding) prepareKernel() {
	if f.kernelIs != nil {
		return
	}
	k := nft.PrepareKernel(f.sysctls, runtime.NumCPU(), f.beLiberal)
	f.kernelIs = &k
	for _, text := range k.Problems {
		f.log.Warn("kernel setting", "problem", text)
	}
	if k.Liberal {
		ring(f.world) // the next round lets pass what conntrack finds invalid
	}
}

// kernelProblems says what of the kernel keeps traffic from pods.
func (f *forwarding) kernelProblems(node string) []problem {
	var problems []problem
	object := "speaker/" + node
	for _, text := range f.kernelIs.Problems {
		problems = append(problems, problem{object, v1beta1.ReasonKernelSetting, text})
	}
	if !f.kernelIs.ForwardsIPv4 && !f.kernelIs.ForwardsIPv6 {
		problems = append(problems, problem{object, v1beta1.ReasonKernelSetting,
			"the node does not route: set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding to 1, as network plugins do"})
	}
	return problems
}
