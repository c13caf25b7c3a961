package interop

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/ternary"
	"coinop.dev/interop/peers"
)

// An iotaJS answers what IOTA's own JavaScript makes of what we have made.
type iotaJS struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func startIotaJS(t *testing.T) *iotaJS {
	script, err := peers.InstallNode(t.Context(), "iota", "iota.js")
	if errors.Is(err, peers.ErrNoNode) {
		t.Skip(err)
	}
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "node", script)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &iotaJS{t, in, bufio.NewReader(out)}
}

type ask map[string]any

// ask puts a question and reads the answer into a value of want's type, which it
// must be.
func (j *iotaJS) equal(question ask, want any) {
	j.t.Helper()
	got := reflect.New(reflect.TypeOf(want))
	j.answer(question, got.Interface())
	if !reflect.DeepEqual(got.Elem().Interface(), want) {
		j.t.Fatalf("%v: they say %.300v; we say %.300v", question["ask"], got.Elem(), want)
	}
}

func (j *iotaJS) answer(question ask, into any) {
	j.t.Helper()
	line, err := json.Marshal(question)
	must(j.t, err)
	_, err = j.in.Write(append(line, '\n'))
	must(j.t, err)
	line, err = j.out.ReadBytes('\n')
	must(j.t, err)
	answer := struct {
		Value any
		Error string
	}{Value: into}
	must(j.t, json.Unmarshal(line, &answer))
	if answer.Error != "" {
		j.t.Fatalf("%v: %s", question["ask"], answer.Error)
	}
}

func randomTrits(random *rand.Rand) (h ternary.Hash) {
	for i := range h {
		h[i] = int8(random.IntN(3)) - 1
	}
	return h
}

// TestIotaLegacy compares hashes, addresses, bundles and signatures with the
// libraries of IOTA's first network, in both directions.
func TestIotaLegacy(t *testing.T) {
	js := startIotaJS(t)
	random := rand.New(rand.NewPCG(1, 20))
	t.Log("hashes of random trits")
	for i := range 40 {
		var text string
		var kerl ternary.Kerl
		var curl ternary.Curl
		for range 1 + i%3 {
			h := randomTrits(random)
			kerl.Absorb(h)
			curl.Absorb(h[:])
			text += h.String()
		}
		js.equal(ask{"ask": "kerl", "trytes": text, "blocks": 2}, kerl.Squeeze().String()+kerl.Squeeze().String())
		js.equal(ask{"ask": "curl", "trytes": text, "blocks": 2}, curl.Squeeze().String()+curl.Squeeze().String())
		h, err := ternary.ParseHash(text[:ternary.HashTrytes])
		must(t, err)
		js.equal(ask{"ask": "normalised", "trytes": h.String()}, [ternary.HashTrytes]int8(ternary.Normalise(h)))
		js.equal(ask{"ask": "checksum", "trytes": h.String()}, ternary.Checksummed(h))
	}
	t.Log("transfers of all levels of security")
	for i := range ternary.MaxSecurity {
		legacyTransfer(t, js, random, 1+i)
	}
}

// legacyTransfer makes a bundle, which both finalise and sign alike; each
// checks what the other signed.
func legacyTransfer(t *testing.T, js *iotaJS, random *rand.Rand, security int) {
	text, index := randomTrits(random).String(), random.Uint64N(1<<40)
	seed, err := ternary.ParseSeed(text)
	must(t, err)
	key, err := seed.Key(index, security)
	must(t, err)
	address, value, now := key.Address(), random.Int64N(ternary.Supply), random.Int64N(1<<32)
	js.equal(ask{"ask": "address", "seed": text, "index": index, "security": security}, address.String())

	bundle := ternary.Bundle{{Address: randomTrits(random), Value: value, Timestamp: now, ObsoleteTag: "COINOP", Tag: "COINOP"}, {Address: address, Value: -value, Timestamp: now}}
	for range security - 1 {
		bundle = append(bundle, ternary.Transaction{Address: address, Timestamp: now})
	}
	for i := range bundle {
		bundle[i].Index, bundle[i].Last = int64(i), int64(len(bundle)-1)
	}
	loose := trytesOf(t, bundle)
	hash, err := bundle.Finalise()
	must(t, err)
	js.equal(ask{"ask": "bundle", "trytes": strings.Join(loose, "")}, trytesOf(t, bundle))

	must(t, bundle.Sign(1, key))
	var fragments []string
	var signature []ternary.Fragment
	for i := range security {
		fragments = append(fragments, bundle[1+i].Message)
	}
	js.equal(ask{"ask": "sign", "seed": text, "index": index, "security": security, "trytes": hash.String()}, fragments)
	js.equal(ask{"ask": "validate", "address": address.String(), "fragments": fragments, "trytes": hash.String()}, true)
	must(t, bundle.Check())
	for _, f := range fragments {
		parsed, err := ternary.ParseFragment(f)
		must(t, err)
		signature = append(signature, parsed)
	}
	other := randomTrits(random)
	if by, err := ternary.SignedBy(other, signature); err != nil || by == address {
		t.Fatalf("the signature is one of another bundle, too: %v", err)
	}
	js.equal(ask{"ask": "validate", "address": address.String(), "fragments": fragments, "trytes": other.String()}, false)
	for i, text := range trytesOf(t, bundle) {
		id, err := bundle[i].Hash()
		must(t, err)
		js.equal(ask{"ask": "transaction", "trytes": text}, id.String())
	}
}

func trytesOf(t *testing.T, bundle ternary.Bundle) (all []string) {
	for i := range bundle {
		text, err := bundle[i].Trytes()
		must(t, err)
		all = append(all, text)
	}
	return all
}

// TestIotaStardustJS: iota.js reads our blocks into the JSON that we write, and
// writes our JSON into our bytes.
func TestIotaStardustJS(t *testing.T) {
	js := startIotaJS(t)
	maker := newTangleMaker(t, 3)
	for range 60 {
		b, spent := maker.block()
		raw := b.Append(nil)
		text, err := json.Marshal(b)
		must(t, err)
		var theirs json.RawMessage
		js.answer(ask{"ask": "decode", "hex": hex.EncodeToString(raw)}, &theirs)
		if want, got := anyOf(t, text), anyOf(t, theirs); !reflect.DeepEqual(got, want) {
			t.Fatalf("they read %s; we write %s", theirs, text)
		}
		var back tangle.Block
		must(t, json.Unmarshal(theirs, &back))
		if back.ID() != b.ID() {
			t.Fatalf("we read %s as another block", theirs)
		}
		js.equal(ask{"ask": "encode", "block": b}, hex.EncodeToString(raw))
		js.equal(ask{"ask": "blockId", "block": b}, b.ID().String())
		switch p := b.Payload.(type) {
		case *tangle.Transaction:
			js.equal(ask{"ask": "transactionId", "block": b}, p.ID().String())
			digest := p.Essence.Digest()
			js.equal(ask{"ask": "essenceHash", "block": b}, hex.EncodeToString(digest[:]))
			js.equal(ask{"ask": "commitment", "outputs": spent}, p.Essence.Commitment.String())
		case *tangle.Milestone:
			js.equal(ask{"ask": "milestoneId", "block": b}, p.ID().String())
		}
		name := "network-" + strconv.Itoa(maker.random.IntN(1000))
		js.equal(ask{"ask": "networkId", "name": name}, strconv.FormatUint(tangle.NetworkID(name), 10))
		a := maker.address()
		js.equal(ask{"ask": "bech32", "hex": hex.EncodeToString(a[1:]), "name": "tst"}, a.Bech32("tst"))
	}
}

// anyOf reads JSON without its empty fields, which we leave out and they do not.
func anyOf(t *testing.T, text []byte) (v any) {
	must(t, json.Unmarshal(text, &v))
	dropEmpty(v)
	return v
}

func dropEmpty(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			if list, ok := field.([]any); field == "0x" || ok && len(list) == 0 {
				delete(v, name)
			}
			dropEmpty(field)
		}
	case []any:
		for _, item := range v {
			dropEmpty(item)
		}
	}
}

// A tangleMaker makes random blocks that are right.
type tangleMaker struct {
	t       *testing.T
	random  *rand.Rand
	net     *tangle.Network
	signers []tangle.Signer
}

func newTangleMaker(t *testing.T, seed uint64) *tangleMaker {
	m := &tangleMaker{t: t, random: rand.New(rand.NewPCG(seed, seed))}
	var keys [][32]byte
	for range 5 {
		s := eddsa.NewSecret(eddsa.SHA512, m.bytes32())
		m.signers = append(m.signers, s)
		keys = append(keys, s.Public())
	}
	n, err := tangle.NewNetwork("coinop-interop", "tst", 2, keys, []tangle.BasicOutput{{Amount: 1 << 60, Address: m.address()}})
	must(t, err)
	m.net = n
	return m
}

func (m *tangleMaker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.random.Uint32())
	}
	return b
}

func (m *tangleMaker) bytes32() [32]byte { return [32]byte(m.bytes(32)) }

func (m *tangleMaker) address() tangle.Address {
	return tangle.NewAddress(m.signers[m.random.IntN(len(m.signers))].Public())
}

func (m *tangleMaker) parents() (ids []tangle.BlockID) {
	n := byte(1 + m.random.IntN(tangle.MaxParents))
	for i := range n {
		id := m.bytes32()
		id[0] = i*30 + id[0]%30
		ids = append(ids, id)
	}
	return ids
}

// block makes a block, and the outputs that it spends if it is a transaction's.
func (m *tangleMaker) block() (b *tangle.Block, spent []tangle.BasicOutput) {
	b = &tangle.Block{Protocol: tangle.Protocol, Parents: m.parents(), Nonce: m.random.Uint64()}
	switch m.random.IntN(4) {
	case 0:
		b.Payload = m.data()
	case 1:
		b.Payload = m.milestone(b.Parents)
	default:
		b.Payload, spent = m.transaction()
	}
	must(m.t, b.Check(m.net))
	return b, spent
}

// data has a tag of less than MaxTagSize bytes: iota.js refuses to write that
// many.
func (m *tangleMaker) data() *tangle.TaggedData {
	return &tangle.TaggedData{Tag: m.bytes(1 + m.random.IntN(tangle.MaxTagSize-1)), Data: m.bytes(1 + m.random.IntN(500))}
}

func (m *tangleMaker) milestone(parents []tangle.BlockID) *tangle.Milestone {
	s := &tangle.Milestone{
		Index: m.random.Uint32() >> 1, Timestamp: m.random.Uint32(), Protocol: tangle.Protocol, Previous: m.bytes32(),
		Parents: parents, InclusionRoot: m.bytes32(), AppliedRoot: m.bytes32(),
	}
	if m.random.IntN(2) == 0 {
		s.Metadata = m.bytes(1 + m.random.IntN(50))
		s.Options = &tangle.ProtocolParameters{Target: s.Index + 30, Protocol: 3, Params: m.bytes(1 + m.random.IntN(50))}
	}
	s.Sign(m.signers[:2+m.random.IntN(4)]...)
	must(m.t, s.Verify(m.net))
	return s
}

func (m *tangleMaker) transaction() (*tangle.Transaction, []tangle.BasicOutput) {
	var inputs []tangle.OutputID
	var spent, outputs []tangle.BasicOutput
	sum := uint64(0)
	for range 1 + m.random.IntN(6) {
		inputs = append(inputs, tangle.NewOutputID(m.bytes32(), uint16(m.random.IntN(tangle.MaxOutputs))))
		spent = append(spent, tangle.BasicOutput{Amount: 1_000_000 + m.random.Uint64N(1<<50), Address: m.address()})
		sum += spent[len(spent)-1].Amount
	}
	for range m.random.IntN(5) {
		outputs = append(outputs, tangle.BasicOutput{Amount: 1 + m.random.Uint64N(100_000), Address: m.address()})
		sum -= outputs[len(outputs)-1].Amount
	}
	outputs = append(outputs, tangle.BasicOutput{Amount: sum, Address: m.address()})
	var data *tangle.TaggedData
	if m.random.IntN(2) == 0 {
		data = m.data()
	}
	essence, err := tangle.NewEssence(m.net, inputs, spent, outputs, data)
	must(m.t, err)
	x, err := essence.Sign(spent, m.signers...)
	must(m.t, err)
	must(m.t, x.Verify())
	return x, spent
}
