package books

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Payment is what a gateway's own purse paid. The fields of its JSON but those
// of the books are read from the data of payment.… events.
type Payment struct {
	ID      money.OrderID `json:"order"`
	State   string        `json:"state"` // if an event has none, the second word of its type
	To      string        `json:"to"`
	Amount  money.Amount  `json:"amount_msat"`
	Fee     money.Amount  `json:"fee_msat"`
	For     string        `json:"for"`
	Units   uint64        `json:"units"`
	Device  string        `json:"device,omitempty"`
	Why     string        `json:"why,omitempty"`
	Gateway string        `json:"gateway"`
	First   step.Time     `json:"first_ms"`
	At      step.Time     `json:"at_ms"` // of the last change
}

const paymentColumns = "id, gateway, first_ms, at_ms, state, payee, amount_msat, fee_msat, what, units, device, why"

const upsertPayment = "ON CONFLICT (id, gateway) DO UPDATE SET at_ms = excluded.at_ms, state = excluded.state, payee = excluded.payee, " +
	"amount_msat = excluded.amount_msat, fee_msat = excluded.fee_msat, what = excluded.what, units = excluded.units, device = excluded.device, why = excluded.why"

func (p *Payment) row() []any {
	return []any{p.ID.String(), p.Gateway, int64(p.First), int64(p.At), text(p.State), text(p.To), number(p.Amount), number(p.Fee),
		text(p.For), units(p.Units), text(p.Device), text(p.Why)}
}

func scanPayment(r *sql.Rows) (p Payment, err error) {
	var id string
	if err = r.Scan(&id, &p.Gateway, &p.First, &p.At, &p.State, &p.To, &p.Amount, &p.Fee, &p.For, &p.Units, &p.Device, &p.Why); err == nil {
		err = p.ID.UnmarshalText([]byte(id))
	}
	return p, err
}

func readPayment(gateway string, e journal.Event) (p Payment, ok bool) {
	word, state, _ := strings.Cut(e.Type, ".")
	if word != "payment" || json.Unmarshal(e.Data, &p) != nil || p.ID == (money.OrderID{}) {
		return p, false
	}
	if p.State == "" {
		p.State = state
	}
	p.Gateway, p.First, p.At = gateway, e.At, e.At
	return p, true
}

func (p *Payment) share() (s share) {
	switch p.State {
	case "paid", "delivered", "settled":
		s[4], s[5], s[6] = 1, number(p.Amount), number(p.Fee)
	}
	return s
}

// payments brings the payments that events tell of up to date.
func (a *apply) payments(events []journal.Event) error {
	for _, e := range events {
		p, ok := readPayment(a.gateway, e)
		if !ok {
			continue
		}
		err := a.rows("SELECT "+paymentColumns+" FROM payments WHERE id = ? AND gateway = ?", []any{p.ID.String(), a.gateway}, func(r *sql.Rows) error {
			was, err := scanPayment(r)
			p.First = was.First
			a.sums.add(was.First, was.For, was.Device, was.share(), -1)
			return err
		})
		if err != nil {
			return err
		}
		a.sums.add(p.First, p.For, p.Device, p.share(), 1)
		if err := a.insert("INSERT INTO payments ("+paymentColumns+") VALUES", upsertPayment, [][]any{p.row()}); err != nil {
			return err
		}
	}
	return nil
}

// Payments returns at most MaxPage payments, newest first, of those first heard
// of from from up to to.
func (b *Books) Payments(ctx context.Context, from, to step.Time, most int) (list []Payment, err error) {
	err = b.rows(ctx, "SELECT "+paymentColumns+" FROM payments WHERE first_ms >= ? AND first_ms < ? ORDER BY first_ms DESC, id DESC LIMIT ?",
		[]any{int64(from), int64(to), min(max(most, 1), MaxPage)}, func(r *sql.Rows) error {
			p, err := scanPayment(r)
			list = append(list, p)
			return err
		})
	return list, err
}
