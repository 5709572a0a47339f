// Command fetch gets a URL and prints the answer. udp://HOST:PORT/TEXT sends the text and prints the first datagram that
// comes back. It is in the lab's pod image because the static busybox there
// cannot look names up: wget crashes in the C library.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const patience = 3 * time.Second

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
	if target, ok := strings.CutPrefix(args[0], "udp://"); ok {
		return ask(target, out)
	}
	client := http.Client{Timeout: patience}
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

// ask sends a datagram and prints the answer.
func ask(target string, out io.Writer) error {
	address, text, _ := strings.Cut(target, "/")
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	answer := make([]byte, 64<<10)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	_, err = out.Write(answer[:n])
	return err
}
