package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/world/books"
)

// A tinyDisk is a file system of a few MB that can be filled.
type tinyDisk struct {
	t    *testing.T
	path string
	fill string
}

func newTinyDisk(t *testing.T, path, size string) *tinyDisk {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("skipped: a small disk is made with mount, which needs root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
	return &tinyDisk{t, path, filepath.Join(path, "filler")}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func (d *tinyDisk) full() {
	d.t.Helper()
	f, err := os.Create(d.fill)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, endless{}); !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d *tinyDisk) room() {
	d.t.Helper()
	if err := os.Remove(d.fill); err != nil {
		d.t.Fatal(err)
	}
}

// The gateway's disk fills up while it sells. It stops, saying why; with room again
// it goes on, and everything that was paid is there, in the books too.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"bbolt", "pebble"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t, "shop", "store = \""+store+":data/db\"\n"+purse, shelf)
			data := filepath.Join(p.dir, "data")
			disk := newTinyDisk(t, data, "6m")
			text := strings.Replace(must(os.ReadFile(p.path())), store+":data/db", store+"://"+filepath.Join(data, "db"), 1)
			p.config(text)
			p.start()
			s := &sales{p: p, stop: make(chan struct{})}
			one, o, _ := p.buy("tea")
			s.orders = map[money.OrderID]offered{one: o}
			disk.full()
			end := time.Now().Add(30 * time.Second)
			var open []offered // paid, or not: nobody has said
			for running := true; running && time.Now().Before(end); {
				o, err := p.quote("tea")
				if err == nil {
					r, err := p.pay(o)
					if err == nil {
						_, err = p.claim(o, r)
					}
					if err == nil {
						s.orders[o.Order] = o
					} else {
						open = append(open, o)
					}
				}
				select {
				case err := <-p.ended:
					p.ended <- err
					running = false
					if err == nil {
						t.Error("on a full disk it ends as if nothing were wrong")
					}
				default:
				}
			}
			said := p.log.String()
			if !strings.Contains(said, "no space left on device") && !strings.Contains(said, "disk is full") || strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
				t.Errorf("on a full disk it says\n%s", tail(said, 3000))
			}
			if time.Now().After(end) {
				t.Fatal("it does not stop on a full disk")
			}
			// Known: pebble.Open does not return on a disk without any room; it flushes
			// its log again and again.
			if store != "pebble" && p.try() == nil {
				p.kill() // it had room to start
			}
			disk.room()
			p.start()
			for _, o := range open {
				r, err := p.pay(o) // the same order: it is paid once
				if err == nil {
					_, err = p.claim(o, r)
				}
				if err != nil {
					t.Errorf("with room again: %v", err)
					continue
				}
				s.orders[o.Order] = o
			}
			id, o, _ := p.buy("tea")
			s.orders[id] = o
			s.reckon(nil, store)
			t.Logf("%d orders, %d of them open when the disk was full", len(s.orders), len(open))
		})
	}
}

func must(raw []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// Only the disk of the books is full. Sales go on, and who looks is told; with room
// again the books have everything.
func TestFullDiskOfTheBooks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "books")
	disk := newTinyDisk(t, path, "2m")
	p := newProcess(t, "shop", fmt.Sprintf("books = \"sqlite://%s/books.sqlite\"\n", path)+purse, shelf).start()
	p.buy("tea")
	disk.full()
	n := 1
	for end := time.Now().Add(10 * time.Second); waiting(t, p) == 0 && time.Now().Before(end); n++ {
		p.buy("tea") // there is room in a file, for a while
	}
	for range 20 {
		p.buy("tea")
		n++
	}
	within(t, 5*time.Second, "events wait for the books", func() bool { return waiting(t, p) >= 60 })
	var ready struct {
		OK    bool
		Books string
	}
	code, text := page(t, p.at("metrics")+"/readyz")
	if err := json.Unmarshal([]byte(text), &ready); err != nil || code != 200 || !ready.OK || !strings.Contains(ready.Books, "full") {
		t.Errorf("while it sells and the books are away, /readyz says %d %s", code, text)
	}
	if _, text := page(t, p.at("metrics")+"/metrics"); !strings.Contains(text, "coinop_books_away 1") {
		t.Error("the metrics do not say that the books are away")
	}
	disk.room()
	within(t, 40*time.Second, "the books have everything", func() bool {
		var totals struct{ Points []books.Point }
		p.must("GET", "/v1/totals", nil, &totals)
		return len(totals.Points) == 1 && totals.Points[0].Orders == int64(n) && waiting(t, p) == 0
	})
	if _, text := page(t, p.at("metrics")+"/metrics"); !strings.Contains(text, "coinop_books_away 0") {
		t.Error("the metrics do not say that the books are back")
	}
	if _, text := page(t, p.at("metrics")+"/readyz"); strings.Contains(text, "full") {
		t.Errorf("/readyz says %s", text)
	}
}

// waiting is how many events the books have not taken.
func waiting(t *testing.T, p *process) int {
	t.Helper()
	_, text := page(t, p.at("metrics")+"/metrics")
	_, after, ok := strings.Cut(text, "\ncoinop_journal_events ")
	if !ok {
		t.Fatalf("no coinop_journal_events in\n%s", text)
	}
	number, _, _ := strings.Cut(after, "\n")
	n, _ := strconv.Atoi(number)
	return n
}
