package daemon

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A listener that is full sends the next one away, and takes one more when one goes.
func TestACrowd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
	go s.Serve(&crowd{Listener: l, most: 2})
	defer s.Close()
	ask := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(2 * time.Second))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := c.Read(make([]byte, 1))
		return err
	}
	var conns []net.Conn
	for n := range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ask(c); (err == nil) != (n < 2) {
			t.Errorf("connection %d: %v", n, err)
		}
		conns = append(conns, c)
	}
	conns[0].Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		err = ask(c)
		c.Close()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("there is no room after one has gone:", err)
		}
	}
}
