package errand_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"coinop.dev/engine/errand"
)

// Three things are due at once and there is room for two: the third begins when one of
// them is done, and what is not due does not.
func TestErrands(t *testing.T) {
	r := errand.New(2)
	var mu sync.Mutex
	begun, busy := 0, map[int]bool{}
	go2, done := make(chan struct{}), make(chan struct{})
	r.Start(func(begin errand.Begin) {
		mu.Lock()
		defer mu.Unlock()
		for i := range 3 {
			busy[i] = begin(time.Time{}, busy[i], func() {
				mu.Lock()
				begun++
				if begun == 3 {
					close(done)
				}
				mu.Unlock()
				<-go2
			})
		}
		if begin(time.Now().Add(time.Hour), false, func() { t.Error("it was not due") }) {
			t.Error("what is not due is under way")
		}
	})
	go2 <- struct{}{}
	<-done
	close(go2)
	r.Close()
}

func TestKeep(t *testing.T) {
	r := errand.New(1)
	gone, heard := errors.New("gone"), make(chan error)
	dials := 0
	r.Keep(func() error {
		if dials++; dials < 3 {
			return gone
		}
		<-r.Context().Done()
		return nil
	}, func(err error) { heard <- err })
	for range 2 {
		if err := <-heard; err != gone {
			t.Error(err)
		}
	}
	r.Close()
}
