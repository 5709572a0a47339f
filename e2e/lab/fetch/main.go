// Command fetch gets a URL and prints the answer. It is in the lab's pod image because the static busybox there
// cannot look names up: wget crashes in the C library.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := fetch(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func fetch(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: fetch URL")
	}
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", args[0], response.Status)
	}
	_, err = io.Copy(out, response.Body)
	return err
}
