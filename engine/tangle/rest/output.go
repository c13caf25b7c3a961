package rest

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// outputMetadata is where an output comes from, and where it went.
type outputMetadata struct {
	Block       tangle.BlockID        `json:"blockId"`
	Transaction tangle.TransactionID  `json:"transactionId"`
	Index       uint16                `json:"outputIndex"`
	IsSpent     bool                  `json:"isSpent"`
	Spent       uint32                `json:"milestoneIndexSpent,omitempty"`
	SpentTime   uint32                `json:"milestoneTimestampSpent,omitempty"`
	SpentBy     *tangle.TransactionID `json:"transactionIdSpent,omitempty"`
	Booked      uint32                `json:"milestoneIndexBooked"`
	BookedTime  uint32                `json:"milestoneTimestampBooked"`
	Ledger      uint32                `json:"ledgerIndex"`
}

type output struct {
	Metadata outputMetadata     `json:"metadata"`
	Output   tangle.BasicOutput `json:"output"`
}

func describeOutput(o *node.Output, ledger uint32) output {
	m := outputMetadata{
		Block: o.Block, Transaction: o.ID.Transaction(), Index: o.ID.Index(),
		Booked: o.Booked.Index, BookedTime: o.Booked.Time, Ledger: ledger,
	}
	if o.Spent.Index != 0 {
		m.IsSpent, m.Spent, m.SpentTime, m.SpentBy = true, o.Spent.Index, o.Spent.Time, &o.SpentBy
	}
	return output{m, o.BasicOutput}
}

func (c *call) findOutput() (o node.Output, ledger uint32, err error) {
	var id tangle.OutputID
	if err := c.text(&id); err != nil {
		return o, 0, err
	}
	ok := false
	err = c.look(func(n *node.Node) {
		o, ok = n.Output(id)
		ledger = n.Info().Latest.Index
	})
	if err == nil && !ok {
		err = notFound("output %s", id)
	}
	return o, ledger, err
}

func (c *call) output() (any, error) {
	o, ledger, err := c.findOutput()
	switch {
	case err != nil:
		return nil, err
	case c.accepts(binary):
		return serialized(o.BasicOutput.Append(nil)), nil
	}
	return describeOutput(&o, ledger), nil
}

func (c *call) outputMetadata() (any, error) {
	o, ledger, err := c.findOutput()
	return describeOutput(&o, ledger).Metadata, err
}

// page is a question to the indexer.
type page struct {
	address       tangle.Address
	after         tangle.OutputID
	size          int
	before, since uint32 // Unix seconds between which outputs were made; 0 is any
	none          bool   // what is asked for, no output here has
}

// readPage reads a question. Outputs here have an amount and an address, so whoever
// asks for those with anything else gets none, and is not asked for an address.
func readPage(q url.Values, hrp string) (p page, err error) {
	p.size = MaxPage
	address := false
	for name := range q {
		value := q.Get(name)
		switch name {
		case "address", "unlockableByAddress":
			address = true
			p.address, err = tangle.ParseAddress(hrp, value)
		case "pageSize":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 31)
			if err != nil || n == 0 {
				err = fmt.Errorf("pageSize %.20q is no number above 0", value)
			} else if !q.Has("cursor") {
				p.size = int(min(n, MaxPage))
			}
		case "cursor":
			// As the indexer writes it: where the last page ended, and how large it was.
			last, size, _ := strings.Cut(value, ".")
			n, bad := strconv.ParseUint(size, 10, 31)
			if bad != nil || n == 0 || n > MaxPage {
				return p, fmt.Errorf("cursor %.100q is none of this node", value)
			}
			p.size, err = int(n), p.after.UnmarshalText([]byte(last))
		case "createdBefore":
			p.before, err = seconds(value)
		case "createdAfter":
			p.since, err = seconds(value)
		case "hasStorageDepositReturn", "hasExpiration", "hasTimelock", "hasNativeTokens":
			has, bad := strconv.ParseBool(value)
			p.none, err = p.none || has, bad
		case "storageDepositReturnAddress", "expirationReturnAddress", "expiresBefore", "expiresAfter",
			"timelockedBefore", "timelockedAfter", "sender", "tag":
			p.none = true
		case "minNativeTokenCount":
			p.none = p.none || value != "0"
		case "maxNativeTokenCount":
		default:
			err = fmt.Errorf("filter %.40q is not known here", name)
		}
		if err != nil {
			return p, err
		}
	}
	if !address && !p.none {
		return p, errors.New("address is missing; this node lists the outputs of one")
	}
	return p, nil
}

func seconds(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%.20q is no Unix time in seconds", text)
	}
	return uint32(n), nil
}

func (p *page) has(o *node.Output) bool {
	return (p.before == 0 || o.Booked.Time < p.before) && (p.since == 0 || o.Booked.Time > p.since)
}

// basicOutputs lists unspent outputs of an address by their IDs.
func (c *call) basicOutputs() (any, error) {
	q, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, invalid(err)
	}
	p, err := readPage(q, c.s.hrp())
	if err != nil {
		return nil, invalid(err)
	}
	var list []node.Output
	answer := struct {
		Ledger uint32            `json:"ledgerIndex"`
		Size   int               `json:"pageSize"`
		Cursor string            `json:"cursor,omitempty"`
		Items  []tangle.OutputID `json:"items"`
	}{Size: p.size, Items: []tangle.OutputID{}}
	err = c.look(func(n *node.Node) {
		answer.Ledger = n.Info().Latest.Index
		if !p.none {
			list = n.OutputsOf(p.address, p.after, p.size+1)
		}
	})
	for _, o := range list[:min(len(list), p.size)] {
		if p.has(&o) {
			answer.Items = append(answer.Items, o.ID)
		}
	}
	if len(list) > p.size {
		answer.Cursor = fmt.Sprintf("%s.%d", list[p.size-1].ID, p.size)
	}
	return answer, err
}

// State is what an address has, of ours.
type State struct {
	Address string    `json:"address"`
	Ledger  uint32    `json:"ledgerIndex"`
	Outputs []Unspent `json:"outputs"` // at most tangle.MaxUnspent, those of older milestones first
}

// Unspent is an output of a State.
type Unspent struct {
	ID     tangle.OutputID    `json:"outputId"`
	Amount string             `json:"amount"`
	Note   *tangle.TaggedData `json:"note,omitempty"` // unless it is pruned, or larger than MaxNote
}

// address tells what an address has.
func (c *call) address() (any, error) {
	text := c.PathValue("address")
	a, err := tangle.ParseAddress(c.s.hrp(), text)
	if err != nil {
		return nil, invalid(err)
	}
	var of tangle.State
	if err := c.look(func(n *node.Node) { of = n.State(a) }); err != nil {
		return nil, err
	}
	state := State{Address: text, Ledger: of.Index, Outputs: make([]Unspent, len(of.Unspent))}
	for i, u := range of.Unspent {
		state.Outputs[i] = Unspent{ID: u.ID, Amount: strconv.FormatUint(u.Amount, 10)}
		if u.Note != nil && len(u.Note.Data) <= MaxNote {
			state.Outputs[i].Note = u.Note
		}
	}
	return state, nil
}
