package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The seller's disk fills up while it is being paid. It stops with an error
// that says so, having told nobody of what is not on disk; with room again it
// goes on, and the sums agree.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"bbolt", "pebble"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSlaughter(t, kind)
			disk := filepath.Join(s.dir, "seller")
			if err := os.MkdirAll(disk, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m"); err != nil {
				t.Skipf("a small disk is made with mount, which needs root: %v", err)
			}
			t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
			s.startSeller()
			errs := s.sellerErrs
			filler, err := os.Create(filepath.Join(disk, "filler"))
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(filler, endless{})
			stopped := make(chan error, 1)
			go func() { stopped <- s.seller.Wait() }()
			s.startBuyer("--timeout", "5s")
			for full := false; !full; {
				select {
				case err = <-stopped:
					full = true
				case err := <-s.ended: // there was room for this row
					if err != nil {
						t.Fatalf("the buyer fails and the seller does not: %v", err)
					}
					s.rows++
					s.startBuyer("--timeout", "5s")
				}
			}
			if err == nil || !bytes.Contains(errs.Bytes(), []byte("no space left on device")) {
				t.Errorf("on a full disk the seller ends with %v and says\n%s", err, errs)
			}
			if strings.Contains(errs.String(), "panic") {
				t.Errorf("the seller panics:\n%s", errs)
			}
			<-s.ended // it is told that its orders are pending, or was quick enough
			filler.Close()
			if err := os.Remove(filler.Name()); err != nil {
				t.Fatal(err)
			}
			s.startSeller()
			s.startBuyer()
			if err := <-s.ended; err != nil {
				t.Fatalf("with room again: %v", err)
			}
			s.rows++
			s.reckon()
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
