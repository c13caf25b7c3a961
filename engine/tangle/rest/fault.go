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

// refused is what a client is told when its block was not attached. What nobody knows
// may pass: it must not be taken for the end of a payment.
func refused(err error) *Fault {
	why, status := node.RefusalOf(err), http.StatusBadRequest
	switch {
	case errors.Is(err, tanglenet.ErrNonce):
		why = ""
	case why == tangle.Busy:
		status = http.StatusServiceUnavailable
	}
	return &Fault{status, fmt.Sprintf("failed to attach block: %.300s", err), why}
}
