package routers

import (
	"os"
	"strings"
	"testing"
)

// A page shows exactly what its file holds.
func TestPagesShowTheFiles(t *testing.T) {
	for _, router := range []string{"frr", "bird"} {
		page, err := os.ReadFile(router + ".md")
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(router + ".conf")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "\n```\n"+string(file)+"```\n") {
			t.Errorf("%s.md does not show %s.conf as it is", router, router)
		}
	}
}
