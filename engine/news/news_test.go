package news_test

import (
	"slices"
	"testing"

	"coinop.dev/engine/news"
)

func TestNews(t *testing.T) {
	var wants []string
	h := news.New("node", func(w []string) { wants = slices.Sorted(slices.Values(w)) })
	a, err := h.Subscribe(1, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := h.Subscribe(2, "b")
	if !slices.Equal(wants, []string{"a", "b"}) {
		t.Errorf("wanted are %v", wants)
	}
	h.Tell(1, func(w string) bool { return w == "a" })
	h.Tell(2, func(string) bool { return true })
	if got := <-a.C; got != 1 || a.Lost() != 1 || b.Lost() != 0 || <-b.C != 2 {
		t.Errorf("a heard %v and lost %d", got, a.Lost())
	}
	b.Want("c")
	a.Close()
	a.Close()
	if _, open := <-a.C; open || !slices.Equal(wants, []string{"c"}) {
		t.Errorf("a is closed, and wanted are %v", wants)
	}
	for range news.MaxSubscriptions - 1 {
		if _, err := h.Subscribe(0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Subscribe(0, ""); err == nil {
		t.Error("one too many may listen")
	}
	h.Close()
	if _, open := <-b.C; open {
		t.Error("b hears of a node that is closed")
	}
	if _, err := h.Subscribe(0, ""); err == nil {
		t.Error("somebody may listen to a node that is closed")
	}
	b.Close()
}
