package consent

import (
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// hours is the length of a window: the hour that is running and the 24 before
// it. What left in any 24 hours is in the window at their end, so a limit on the
// window holds for every day, whenever it begins; a calendar's day would let
// twice as much leave around midnight.
const hours = 25

// A window sums what left by the hour. A clock that goes backward stands still.
type window struct {
	hour uint64 // since 1970, of the newest sum
	sums [hours]money.Amount
}

// at is the window as of now.
func (w window) at(now step.Time) window {
	hour := w.hour
	if now > 0 {
		hour = max(hour, uint64(now/step.Hour))
	}
	for n := min(hour-w.hour, hours); n > 0; n-- {
		w.hour = hour - n + 1
		w.sums[w.hour%hours] = 0
	}
	w.hour = hour
	return w
}

// total is what left within the window.
func (w *window) total() (sum money.Amount) {
	for _, s := range w.sums {
		sum = plus(sum, s)
	}
	return sum
}

// add counts amount at the newest hour.
func (w *window) add(amount money.Amount) {
	at := &w.sums[w.hour%hours]
	*at = plus(*at, amount)
}

// plus is a+b, or all bitcoin there is.
func plus(a, b money.Amount) money.Amount {
	if sum, ok := a.Add(b); ok {
		return sum
	}
	return money.MaxAmount
}

func (w *window) append(b []byte) []byte {
	b = codec.AppendUint(b, w.hour)
	for _, s := range w.sums {
		b = codec.AppendUint(b, s)
	}
	return b
}

func readWindow(r *codec.Reader) (w window) {
	w.hour = r.Uvarint()
	for i := range w.sums {
		w.sums[i] = r.Amount()
	}
	return w
}
