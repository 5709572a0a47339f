package forward

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fairlead/fairlead/speaker/nft"
)

// FuzzService translates whatever Services and EndpointSlices can be written.
// Nothing may crash, and no rule may capture or reach what it must not. The
// seeds are the scenarios, and the hostile objects in testdata/fuzz.
func FuzzService(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		arc, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(section(arc, "in.yaml"))
	}
	n := testNode()
	n.Peers = both(node2Addr)
	f.Fuzz(func(t *testing.T, in string) {
		services, slices, err := readObjects(in)
		if err != nil {
			return
		}
		for _, svc := range services {
			for _, pick := range []nft.Pick{nft.Random, nft.Hash} {
				r := Service(svc, slices, n, pick)
				checkWish(t, svc, r.Wish, n)
				_ = r.Wish.String()
				if s := r.Summary; s.LocalReady > s.Ready || s.LocalServing > s.Serving {
					t.Errorf("more here than anywhere: %+v", s)
				}
			}
		}
	})
}
