package money

import "errors"

// A Kind says what the caller may do next. Test for one with errors.Is:
//
//	if errors.Is(err, money.Unpaid) { /* another rail may try */ }
type Kind uint8

const (
	// Pending: the money may have moved. Never pay elsewhere; ask again with
	// the same order. It is the zero Kind, so a driver that forgets to say
	// gives the answer that cannot lose money.
	Pending Kind = iota
	// Invalid: the request makes no sense; repeating it will not help.
	Invalid
	// Refused: a limit or a rule of ours said no. Nothing was sent.
	Refused
	// Unpaid: certainly not paid; safe to try elsewhere.
	Unpaid
	// Broken: we have a bug or a bad disk. A person must look.
	Broken
)

var kindNames = [...]string{"pending", "invalid", "refused", "unpaid", "broken"}

// Error makes a Kind usable as an errors.Is target.
func (k Kind) Error() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "pending"
}

// An Error is "op: kind: cause": what was tried, what it means, and why with
// the numbers.
type Error struct {
	Kind Kind
	Op   string // "pay oneway://…"
	Err  error
}

func (e *Error) Error() string {
	text := e.Kind.Error()
	if e.Op != "" {
		text = e.Op + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives errors.Is both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf returns the kind of err. An error that names none is Pending.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Pending
}
