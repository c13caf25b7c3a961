package daemon_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// builtIn is the folder that built is in.
var builtIn string

// built is the real binary, built once.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "coinop")
	if err != nil {
		return "", err
	}
	builtIn = dir
	path := filepath.Join(dir, "coinop")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/coinop").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return path, err
})

// real makes it coinop serve. Without -long, which has the time to link that, it is
// the test binary's likeness of it.
func (p *process) real() *process {
	p.t.Helper()
	if !*long {
		return p
	}
	path, err := built()
	if err != nil {
		p.t.Fatal(err)
	}
	p.argv = []string{path, "serve", "--json", "-v", "-c", p.path()}
	return p
}

// slow is a service behind the paywall that takes its time, and says when somebody
// has come.
func slow(t *testing.T, takes time.Duration) (tables string, came chan struct{}) {
	came = make(chan struct{}, 16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		select {
		case <-time.After(takes):
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "done")
	}))
	t.Cleanup(s.Close)
	return fmt.Sprintf("[[sell]]\nitem = \"slow\"\nunit = \"request\"\nprice = \"1 sat\"\nfree = 1000\nfrom = %q\n", s.URL), came
}

// manager is systemd's end of NOTIFY_SOCKET.
type manager struct {
	*net.UnixConn
	mu   sync.Mutex
	said []string
	at   []time.Time
}

func newManager(t *testing.T) *manager {
	m := &manager{}
	var err error
	if m.UnixConn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := m.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			for line := range strings.Lines(string(b[:n])) {
				if word := strings.TrimSpace(line); !strings.HasPrefix(word, "STATUS=") && word != "WATCHDOG=1" {
					m.said, m.at = append(m.said, word), append(m.at, time.Now())
				}
			}
			m.mu.Unlock()
		}
	}()
	return m
}

func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

// A gateway that is told to stop finishes what is under way and takes nothing new,
// and its service manager is told at each step.
func TestDrain(t *testing.T) {
	t.Parallel()
	manager := newManager(t)
	tables, came := slow(t, 700*time.Millisecond)
	p := newProcess(t, "shop", purse, tables).real()
	p.env = []string{"NOTIFY_SOCKET=" + manager.LocalAddr().String()}
	p.start()
	within(t, 5*time.Second, "systemd hears that it is ready", func() bool { return len(manager.heard()) == 1 })

	type answer struct {
		code int
		text string
	}
	answers := make(chan answer, 1)
	go func() {
		code, text := page(t, p.at("http")+"/slow/")
		answers <- answer{code, text}
	}()
	<-came
	waiting := make(chan error, 1)
	go func() { // an order that never comes: this one need not be waited for
		_, err := p.order([16]byte{1}, "30s")
		waiting <- err
	}()
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	p.cmd.Process.Signal(syscall.SIGTERM)
	within(t, 500*time.Millisecond, "nothing new is taken", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.at("http"), "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := <-waiting; err != nil {
		t.Errorf("who waits for an order is told how it stands: %v", err)
	}
	if got := <-answers; got != (answer{200, "done"}) {
		t.Errorf("a request that was under way: %+v", got)
	}
	if err := p.wait(10 * time.Second); err != nil || time.Since(start) > 3*time.Second {
		t.Errorf("it ended with %v after %v", err, time.Since(start))
	}
	if said := manager.heard(); !slices.Equal(said, []string{"READY=1", "STOPPING=1"}) {
		t.Errorf("systemd has heard %q", said)
	} else if late := manager.at[1].Sub(start); late > 300*time.Millisecond {
		// cmd/coinop/gateway.go says it when all is over.
		t.Logf("KNOWN: STOPPING=1 came %v after the signal", late.Round(time.Millisecond))
	}

	// What does not end in the drain time is cut.
	tables, came = slow(t, time.Minute)
	p = newProcess(t, "hurried", purse+"drain = \"300ms\"\n", tables).start()
	go client.Get(p.at("http") + "/slow/")
	<-came
	start = time.Now()
	if err := p.stop(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("with a drain time of 300ms it ended with %v after %v", err, time.Since(start))
	}
}

// The config is read again at SIGHUP. One that cannot be read changes nothing, and
// it is said.
func TestReload(t *testing.T) {
	t.Parallel()
	manager := newManager(t)
	p := newProcess(t, "shop", purse, strings.ReplaceAll(shelf, "machine", "sensor")).real()
	p.env = []string{"NOTIFY_SOCKET=" + manager.LocalAddr().String()}
	p.start()
	raw, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	hang := func(text string) {
		t.Helper()
		p.config(text)
		n := len(manager.heard())
		p.cmd.Process.Signal(syscall.SIGHUP)
		within(t, 5*time.Second, "it has read its config again", func() bool {
			said := manager.heard()
			return len(said) == n+2 && said[n] == "RELOADING=1" && said[n+1] == "READY=1"
		})
	}
	price := func() string {
		t.Helper()
		o, err := p.quote("tea")
		if err != nil {
			t.Fatal(err)
		}
		return o.Due.String()
	}
	within(t, 5*time.Second, "systemd hears that it is ready", func() bool { return len(manager.heard()) == 1 })
	old, _ := p.quote("tea")
	if got := price(); got != "5 sat" {
		t.Error(got)
	}
	hang(strings.Replace(string(raw), "5 sat", "9 sat", 1))
	if got := price(); got != "9 sat" {
		t.Errorf("after the config has changed: %s", got)
	}
	for what, text := range map[string]string{
		"not TOML": "price = [", "an unknown key": string(raw) + "\ncolour = \"red\"\n", "a bad price": strings.Replace(string(raw), "5 sat", "5 apples", 1), "no file": "",
	} {
		was := len(p.log.String())
		hang(text)
		if said := p.log.String()[was:]; !strings.Contains(said, "the old one stays") || price() != "9 sat" {
			t.Errorf("%s: a tea is %s, and it says %s", what, price(), said)
		}
	}
	hang(string(raw))
	if got := price(); got != "5 sat" {
		t.Errorf("after the config was mended: %s", got)
	}
	// What was quoted stays at its price.
	r, err := p.pay(old)
	if err == nil {
		_, err = p.claim(old, r)
	}
	if err != nil {
		t.Error(err)
	}
	// An owner's price lasts until the config says another one.
	p.must("PUT", "/v1/services/tea", object{"name": "tea", "unit": "cup", "price_msat": 7000, "from": "sensor"}, nil)
	hang(string(raw))
	if got := price(); got != "7 sat" {
		t.Errorf("the owner's price, after a config without news: %s", got)
	}
	hang(strings.Replace(string(raw), "5 sat", "6 sat", 1))
	if got := price(); got != "6 sat" {
		t.Errorf("the owner's price, after a config that changes it: %s", got)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}
