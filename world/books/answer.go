package books

import (
	"context"
	"errors"
	"fmt"

	"coinop.dev/core/step"
)

// An Answer is what a request with an Idempotency-Key was answered with.
type Answer struct {
	Status int
	Type   string // of the body: a media type
	Body   string
}

// MaxAnswer bounds the body of an answer, in bytes.
const MaxAnswer = 64 << 10

var (
	// ErrKeyReused means that the key stood on another request before.
	ErrKeyReused = errors.New("the Idempotency-Key was used for another request; use a new one")
	// ErrUnderWay means that the request with this key is being worked on, or that
	// its gateway stopped while it was: nobody knows what came of it.
	ErrUnderWay = errors.New("the request with this Idempotency-Key is under way; look at what it was about, or ask again later")
)

// Begin notes that a request is worked on: its key, which names its principal
// too, and a digest of what it says. It returns the answer if there is one
// already; nil means go on, and Answer or Abandon.
func (b *Books) Begin(ctx context.Context, key, request string, now step.Time) (answered *Answer, err error) {
	err = b.change(ctx, func(c change) error {
		if _, err := c.exec("DELETE FROM answers WHERE at_ms <= ?", int64(now)-KeepAnswers); err != nil {
			return err
		}
		n, err := c.exec("INSERT INTO answers (id, request, at_ms, status, type, body) SELECT ?, ?, ?, 0, '', '' "+
			"WHERE (SELECT COUNT(*) FROM answers) < ? ON CONFLICT (id) DO NOTHING", text(key), text(request), int64(now), MaxAnswers)
		if err != nil || n > 0 {
			return err
		}
		var was string
		var a Answer
		found, err := c.one("SELECT request, status, type, body FROM answers WHERE id = ?", []any{text(key)}, &was, &a.Status, &a.Type, &a.Body)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("requests with an Idempotency-Key: %w: the limit is %d in 24 h", ErrTooMany, MaxAnswers)
		case was != text(request):
			return ErrKeyReused
		case a.Status == 0:
			return ErrUnderWay
		}
		answered = &a
		return nil
	})
	return answered, err
}

// Answer keeps what the request with key was answered with, for 24 h.
func (b *Books) Answer(ctx context.Context, key string, a Answer) error {
	if len(a.Body) > MaxAnswer {
		return fmt.Errorf("books: an answer of %d bytes cannot be kept; the limit is %d", len(a.Body), MaxAnswer)
	}
	return b.change(ctx, func(c change) error {
		_, err := c.exec("UPDATE answers SET status = ?, type = ?, body = ? WHERE id = ?", a.Status, text(a.Type), text(a.Body), text(key))
		return err
	})
}

// Abandon forgets a request that has certainly done nothing.
func (b *Books) Abandon(ctx context.Context, key string) error {
	return b.change(ctx, func(c change) error {
		_, err := c.exec("DELETE FROM answers WHERE id = ? AND status = 0", text(key))
		return err
	})
}
