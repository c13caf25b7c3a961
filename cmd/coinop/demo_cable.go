//go:build !omit_demo && !omit_ledger

package main

import (
	"io"
	"net"
	"sync"
)

// A cable leads from one node to another. Cut, it holds up what is on its way, as a
// network does that loses every packet: nobody hangs up.
type cable struct {
	listener net.Listener

	mu    sync.Mutex
	whole *sync.Cond
	to    string // where it leads
	down  bool
	shut  bool
	ends  map[net.Conn]bool
}

func newCable() (*cable, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &cable{listener: l, ends: map[net.Conn]bool{}}
	c.whole = sync.NewCond(&c.mu)
	go c.serve()
	return c, nil
}

// addr is where it begins.
func (c *cable) addr() string { return c.listener.Addr().String() }

func (c *cable) lead(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
}

func (c *cable) cut(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	c.whole.Broadcast()
}

func (c *cable) close() {
	c.mu.Lock()
	c.shut = true
	for end := range c.ends {
		end.Close()
	}
	c.whole.Broadcast()
	c.mu.Unlock()
	c.listener.Close()
}

// pass waits until something may pass, and reports whether it ever will.
func (c *cable) pass() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.down && !c.shut {
		c.whole.Wait()
	}
	return !c.shut
}

func (c *cable) serve() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.join(near)
	}
}

// join carries one connection.
func (c *cable) join(near net.Conn) {
	defer c.drop(near)
	if !c.keep(near) || !c.pass() {
		return
	}
	c.mu.Lock()
	to := c.to
	c.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer c.drop(far)
	if !c.keep(far) {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		c.carry(near, far)
	}()
	c.carry(far, near)
	<-back
}

// carry copies until one end is closed; then the other is, too.
func (c *cable) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	io.Copy(writer{to, c}, from)
}

// A writer waits while the cable is cut.
type writer struct {
	net.Conn
	c *cable
}

func (w writer) Write(b []byte) (int, error) {
	if !w.c.pass() {
		return 0, net.ErrClosed
	}
	return w.Conn.Write(b)
}

// ReadFrom is not the connection's own, which would pass the cut by.
func (w writer) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

func (c *cable) keep(end net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[end] = true
	return !c.shut
}

func (c *cable) drop(end net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ends, end)
	end.Close()
}
