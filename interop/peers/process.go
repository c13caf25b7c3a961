package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// patience is how long a program may take to answer, to follow or to end.
	patience = time.Minute
	// maxLog is how much of a program's log is kept, in bytes: the end of it.
	maxLog = 16 << 10
)

// A Process is a running program.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  tail
	done chan struct{}
	err  error // why it ended; read after done
}

// start runs a program until ctx ends or Stop is called. It dies with us.
func start(ctx context.Context, name, path, home string, args ...string) (*Process, error) {
	p := prepare(ctx, name, path, home, args...)
	return p, p.run()
}

// prepare is start, up to the point of no return.
func prepare(ctx context.Context, name, path, home string, args ...string) *Process {
	p := &Process{Name: name, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.Dir = home
	p.cmd.Env = append(os.Environ(), "HOME="+home)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = patience
	return p
}

func (p *Process) run() error {
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log is the end of what the program has printed.
func (p *Process) Log() string { return p.log.String() }

// Stop asks the program to end, and kills it when it does not.
func (p *Process) Stop() {
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
	}
}

// Kill ends the program as a power failure would.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// await asks again and again, because other programs do not tell.
func (p *Process) await(ctx context.Context, what string, ask func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		err := ask()
		if err == nil {
			return nil
		}
		if stop := (*final)(nil); errors.As(err, &stop) {
			return fmt.Errorf("%s: %s: %w", p.Name, what, stop.error)
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s has ended (%v) and not yet: %s: %w", p.Name, p.err, what, err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-late:
			return fmt.Errorf("%s: after %v not yet: %s: %w", p.Name, patience, what, err)
		}
	}
}

// final is an error that asking again does not mend.
type final struct{ error }

// FreeAddr is an address on loopback that nobody listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail is a writer that keeps the end.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if len(t.text) > 2*maxLog {
		t.text = append(t.text[:0], t.text[len(t.text)-maxLog:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.text
	if len(text) > maxLog {
		text = text[len(text)-maxLog:]
	}
	return strings.ToValidUTF8(string(text), "?")
}
