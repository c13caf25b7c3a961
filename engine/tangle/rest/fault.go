package rest

import (
	"errors"
	"fmt"
	"net/http"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	tanglenet "coinop.dev/engine/tangle"
)

// A Fault is an error as a client is told of it.
type Fault struct {
	Status  int // of HTTP
	Message string
	Refusal tangle.Refusal // ours: why a transaction is not taken, if that is it
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (%d)", f.Message, f.Status) }

// envelope is a Fault in JSON.
type envelope struct {
	Error jsonFault `json:"error"`
}

type jsonFault struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Refusal tangle.Refusal `json:"refusal,omitempty"`
}

var (
	tooMany   = &Fault{http.StatusTooManyRequests, "too many requests; try again", ""}
	tooBusy   = &Fault{http.StatusServiceUnavailable, "the node is busy; try again", ""}
	notSynced = &Fault{http.StatusServiceUnavailable, "node is not synced", tangle.NotSynced}
	forbidden = &Fault{http.StatusForbidden, "this node does not tell that to everybody", ""}
	// notApplied is how a client knows that the transaction may still be applied.
	notApplied = &Fault{http.StatusNotFound, "no milestone has applied the transaction", ""}
	pruned     = &Fault{http.StatusNotFound, "the node has pruned what shows that the transaction was applied", tangle.Pruned}
)

func notFound(what string, about ...any) *Fault {
	return &Fault{http.StatusNotFound, fmt.Sprintf(what, about...) + " not found", ""}
}

func invalid(err error) *Fault {
	return &Fault{http.StatusBadRequest, fmt.Sprintf("invalid parameter, error: %.300s", err), ""}
}

// refused is what a client is told when its block was not attached.
func (s *Server) refused(b *tangle.Block, err error) error {
	because := func(status int, why tangle.Refusal) *Fault {
		return &Fault{status, fmt.Sprintf("failed to attach block: %.300s", err), why}
	}
	var conflict node.Conflict
	switch {
	case errors.Is(err, node.ErrWork), errors.Is(err, tanglenet.ErrWorks):
		return because(http.StatusServiceUnavailable, tangle.Busy)
	case errors.Is(err, node.ErrFull), errors.Is(err, node.ErrHalted):
		return because(http.StatusServiceUnavailable, tangle.Busy)
	case errors.Is(err, tanglenet.ErrNonce), errors.Is(err, node.ErrUnsolid), errors.Is(err, node.ErrTooOld):
		return because(http.StatusBadRequest, "")
	case errors.As(err, &conflict):
		return because(http.StatusBadRequest, refusalOf(conflict))
	}
	if bad := b.Check(s.Node.Network()); bad != nil {
		err = bad
		return because(http.StatusBadRequest, tangle.BadTransaction)
	}
	if t, ok := b.Payload.(*tangle.Transaction); ok {
		if bad := t.Verify(); bad != nil {
			err = bad
			return because(http.StatusBadRequest, tangle.BadTransaction)
		}
	}
	// Of what remains some is the client's fault and some may pass: that must not be
	// taken for the end of a payment.
	return because(http.StatusServiceUnavailable, tangle.Busy)
}

// refusalOf is what a conflict means to a wallet.
func refusalOf(c node.Conflict) tangle.Refusal {
	switch c {
	case node.AlreadySpent, node.SpentBefore:
		return tangle.SpentInput
	case node.NotFound:
		return tangle.NoInput
	}
	return tangle.BadTransaction
}
