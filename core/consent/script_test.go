package consent_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"coinop.dev/core/consent"
	"coinop.dev/core/step"
	"coinop.dev/internal/script"
)

func TestScripts(t *testing.T) {
	script.Run(t, "testdata/script/*.txt", func(t *testing.T) func(string) string {
		k := &talk{gateway: newGateway(t, usual), given: map[string]consent.Seen{}, spent: map[string]coin{}, orders: map[string]string{}, copies: map[string]disk{}}
		return k.obey
	})
}

// A talk is a conversation with one signer, whose coins each proposal takes in
// turn; a replacement takes the coin of what it replaces, or a fresh one if
// there is one.
type talk struct {
	*gateway
	out    strings.Builder
	coins  []coin
	spent  map[string]coin
	orders map[string]string
	given  map[string]consent.Seen
	copies map[string]disk
}

func (k *talk) obey(command string) string {
	k.out.Reset()
	for line := range strings.SplitSeq(command, "\n") {
		w := strings.Fields(line)
		switch w[0] {
		case "outside":
			k.config.Outside = true
			k.boot(0)
		case "fund":
			k.coins = append(k.coins, k.fund(wpkh, uint32(len(k.spent)+len(k.coins)), int64(k.number(w[1]))))
			k.bury(3)
		case "propose":
			k.propose(w[1], w[2:])
		case "counted":
			k.tell(step.Recv{From: consent.Secret, Msg: consent.Counted{At: uint64(k.number(w[1]))}})
			k.say()
		case "crash":
			k.boot(uint64(k.number(w[1])))
			k.say()
		case "backup":
			k.copies[w[1]] = k.disk.copy()
		case "restore":
			k.disk = k.copies[w[1]].copy()
		case "show":
			k.recv(k.given[w[1]])
			k.say()
		case "forge":
			seen := k.given[w[1]]
			seen.Consent.Counter += 5
			k.recv(seen)
			k.say()
		case "wait":
			k.now += step.Time(k.number(w[1])) * step.Hour
		case "state":
			s := k.signer.Summary(k.now)
			fmt.Fprintf(&k.out, "counter %d outside %d waiting %d left %v of the day\n", s.Counter, s.Outside, s.Waiting, s.Left)
		default:
			k.t.Fatalf("no command is called %q", w[0])
		}
	}
	return k.out.String()
}

func (k *talk) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}

func (k *talk) propose(id string, w []string) {
	c, known := k.spent[id]
	order, replaces := id, ""
	if w[0] == "replaces" {
		replaces, w = w[1], w[2:]
		order = k.orders[replaces]
		c, known = k.spent[replaces], len(k.coins) == 0
	}
	if !known {
		c, k.coins = k.coins[0], k.coins[1:]
	}
	k.spent[id], k.orders[id] = c, order
	pay, fee := int64(k.number(w[1])), int64(k.number(w[3]))
	d := k.draft(id, c).pay(order, shop("shop"), pay).change(k.script(wpkh, 1, 0), c.out().Value-pay-fee)
	copy(d.Replaces[:], replaces)
	k.answer(d.done(k.t))
	k.given[id] = consent.Seen{TxID: d.tx().TxHash()}
	k.say()
}

func (k *talk) say() {
	for _, p := range k.sent {
		switch m := p.Msg.(type) {
		case consent.Count:
			fmt.Fprintf(&k.out, "to %s: count to %d\n", p.To, m.To)
		case consent.Consent:
			id := strings.TrimRight(string(m.ID[:]), "\x00")
			if seen, ok := k.given[id]; ok && seen.Consent.Counter == m.Counter && string(seen.Consent.Append(nil)) != string(m.Append(nil)) {
				k.t.Errorf("consent %s has other bytes than before", id)
			}
			k.given[id] = consent.Seen{TxID: k.given[id].TxID, Consent: m}
			fmt.Fprintf(&k.out, "consent %s counter %d\n", id, m.Counter)
		case consent.Refusal:
			fmt.Fprintf(&k.out, "refused %s: %v: %s\n", strings.TrimRight(string(m.ID[:]), "\x00"), m.Reason, k.short(m.Text))
		}
	}
}

// short leaves long IDs out of a text.
func (k *talk) short(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if len(strings.Trim(w, ",;:")) == 32 {
			words[i] = "…" + w[32:]
		}
	}
	return strings.Join(words, " ")
}
