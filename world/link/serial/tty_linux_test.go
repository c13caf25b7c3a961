package serial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coinop.dev/world/link/serial"
)

// A cable joins two pseudoterminals, with noise.
type cable struct {
	dir     string
	masters [2]*os.File
	bad     atomic.Bool // one byte in 500 is lost, flipped or repeated
}

func (c *cable) path(i int) string { return filepath.Join(c.dir, fmt.Sprint("tty", i)) }

func (c *cable) uri(i int) string { return "serial://" + c.path(i) + "?baud=115200" }

func (c *cable) plug(t *testing.T) {
	for i := range c.masters {
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Skipf("no pseudoterminals here: %v", err)
		}
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err == nil {
			err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(c.path(i))
		if err := os.Symlink(fmt.Sprint("/dev/pts/", n), c.path(i)); err != nil {
			t.Fatal(err)
		}
		c.masters[i] = os.NewFile(uintptr(fd), "ptmx")
	}
	go c.carry(c.masters[0], c.masters[1], 1)
	go c.carry(c.masters[1], c.masters[0], 2)
}

func (c *cable) pull() {
	c.masters[0].Close()
	c.masters[1].Close()
}

func (c *cable) carry(from, to *os.File, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	buf := make([]byte, 256)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, unix.EIO) { // nobody has the other side open
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		var out []byte
		for _, b := range buf[:n] {
			switch rng.IntN(1500) * btoi(c.bad.Load()) {
			case 1:
			case 2:
				out = append(out, b^0x10)
			case 3:
				out = append(out, b, b)
			default:
				out = append(out, b)
			}
		}
		to.Write(out)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func start(t *testing.T, uri string, o serial.Options) (*serial.Line, chan bool) {
	open, err := serial.Opener(uri)
	if err != nil {
		t.Fatal(err)
	}
	turns := make(chan bool, 64)
	o.Turned = func(up bool, _ string) { turns <- up }
	l, err := serial.Start(open, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, turns
}

func wait(t *testing.T, turns chan bool, up bool) {
	t.Helper()
	for {
		select {
		case got := <-turns:
			if got == up {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("the line does not turn %v", up)
		}
	}
}

// Two programs on two real terminals: zeros, line ends and control characters
// come through as they are, noise is mended, and a pulled cable is found again.
func TestTerminals(t *testing.T) {
	c := &cable{dir: t.TempDir()}
	c.plug(t)
	defer func() { c.pull() }()
	a, ups := start(t, c.uri(0), serial.Options{Name: "gateway"})
	b, downs := start(t, c.uri(1), serial.Options{Name: "pump-3", Max: 2000})
	wait(t, ups, true)
	wait(t, downs, true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	every := make([]byte, 2000)
	for i := range every {
		every[i] = byte(i)
	}
	exchange := func(from, to *serial.Line, msg []byte) {
		t.Helper()
		if err := from.Send(ctx, msg); err != nil {
			t.Fatal(err)
		}
		if got, err := to.Recv(ctx); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	exchange(a, b, every)
	exchange(b, a, every)
	if err := a.Send(ctx, append(every, 1)); !errors.Is(err, serial.ErrTooLong) {
		t.Errorf("2001 bytes to who takes 2000: %v", err)
	}

	c.bad.Store(true)
	for range 2 {
		exchange(a, b, every[:700])
	}
	c.bad.Store(false)

	c.pull()
	wait(t, ups, false)
	wait(t, downs, false)
	if err := a.Send(ctx, []byte("open")); !errors.Is(err, serial.ErrDown) {
		t.Errorf("without a cable: %v", err)
	}
	c.plug(t)
	wait(t, ups, true)
	wait(t, downs, true)
	exchange(a, b, []byte("open"))
}

func TestNoTerminal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tty")
	os.WriteFile(file, nil, 0o600)
	for uri, why := range map[string]string{
		"serial:///dev/nothing-here": "check the cable", "serial://" + file: "check that it is a serial port",
	} {
		open, err := serial.Opener(uri)
		if err != nil {
			t.Fatal(err)
		}
		if port, err := open(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, %v", uri, port, err)
		}
	}
	for _, uri := range []string{"", "serial:", "serial://host/dev", "tcp:///dev/tty", "serial:///dev/x?baud=0", "serial:///dev/x?baud=x", "serial:///dev/x?parity=1", "serial:///dev/x?baud=1&baud=2"} {
		if _, err := serial.Opener(uri); err == nil {
			t.Errorf("%q is accepted", uri)
		}
	}
	if path, baud, err := serial.Parse("serial:///dev/ttyUSB0?baud=9600"); path != "/dev/ttyUSB0" || baud != 9600 || err != nil {
		t.Errorf("%s %d %v", path, baud, err)
	}
	if _, err := serial.Start(func() (io.ReadWriteCloser, error) { return nil, io.EOF }, serial.Options{Max: 100}); err == nil {
		t.Error("a line that takes 100 bytes")
	}
}
