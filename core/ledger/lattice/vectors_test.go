package lattice_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
)

// A vector is a block of testdata/nano.json.
type vector struct {
	Type, Subtype, Source   string
	Account, Representative lattice.Key
	AccountPub              string `json:"account_pub"`
	Previous, Link, Hash    lattice.Hash
	Balance                 lattice.Raw
	Signature, Work         string
	Valid                   *bool        `json:"signature_valid"`
	Difficulty              string       `json:"work_difficulty"`
	Meets                   []string     `json:"work_meets"`
	Serialized              string       `json:"serialized_hex"`
	Publish                 string       `json:"publish_message_hex"`
	BlockSource             lattice.Hash `json:"block_source"`
	Destination             lattice.Key
	BalanceHex              string `json:"balance_hex"`
}

func (v vector) block() lattice.Block {
	b := lattice.Block{
		Account: v.Account, Previous: v.Previous, Representative: v.Representative, Balance: v.Balance, Link: v.Link,
	}
	copy(b.Signature[:], unhex(v.Signature))
	if v.Work != "" {
		b.Work = number(v.Work)
	}
	return b
}

// vectors is testdata/nano.json, whose origin stands in it.
type vectors struct {
	Invalid []struct{ Account string }         `json:"addresses_invalid"`
	Valid   []struct{ Account, Public string } `json:"addresses_valid"`
	Phrases []struct {
		Mnemonic, Passphrase, Path string
		Seed                       string `json:"bip39_seed"`
		Private, Public, Account   string
	} `json:"bip39_bip44"`
	Keypairs []struct{ Private, Public, Account string }
	Seeds    []struct {
		Seed, Private, Public, Account string
		Index                          uint32
	} `json:"seed_derivation"`
	Constants struct {
		Epochs     map[string]lattice.Hash    `json:"epoch_links"`
		Amount     lattice.Raw                `json:"genesis_amount"`
		Types      map[string]uint8           `json:"message_types"`
		Networks   map[string]string          `json:"network_id"`
		Protocol   uint8                      `json:"protocol_version"`
		Oldest     uint8                      `json:"protocol_version_min"`
		Thresholds map[string]json.RawMessage `json:"work_thresholds"`
		Burn       lattice.Key
	}
	Generated  []vector `json:"generated_dev_blocks"`
	Blocks     []vector `json:"state_blocks"`
	HashOnly   []vector `json:"state_block_hash_only"`
	Legacy     []vector `json:"legacy_blocks"`
	LegacyHash []vector `json:"legacy_block_hash_only"`
	Messages   []struct {
		Name, Hex, Cookie, Salt, Signature string
		Genesis                            lattice.Hash
		Node                               string `json:"node_id"`
		Private                            string `json:"node_id_private"`
		Signed                             string `json:"signed_data_hex"`
	} `json:"messages_generated"`
	Telemetry []struct {
		Fields    map[string]uint64
		Node      string `json:"node_id"`
		Signature string
		Signed    string `json:"signed_payload_hex"`
		Payload   string `json:"telemetry_ack_payload_hex"`
	}
	Votes []struct {
		Account    lattice.Key
		Digest     lattice.Hash
		Hashes     []lattice.Hash
		Signature  string
		Ack        string `json:"confirm_ack_hex"`
		Extensions string `json:"header_extensions"`
		U64        *uint64
		U64Hex     string `json:"u64_hex"`
	}
	Work []struct {
		Root, Work, Difficulty string
		Meets                  []string
	}
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/nano.json")
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	if have := [...]int{
		len(v.Invalid), len(v.Valid), len(v.Phrases), len(v.Keypairs), len(v.Seeds), len(v.Generated), len(v.Blocks), len(v.HashOnly),
		len(v.Legacy), len(v.LegacyHash), len(v.Messages), len(v.Telemetry), len(v.Votes), len(v.Work),
	}; have != [...]int{1, 2, 6, 3, 3, 5, 12, 1, 4, 3, 8, 2, 4, 2} {
		t.Fatalf("testdata has %d entries", have)
	}
	return v
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

func bytes32(text string) [32]byte { return [32]byte(unhex(text)) }

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// checkKey compares a private key with what it should give.
func checkKey(t *testing.T, s eddsa.Secret, private, public, account string) {
	t.Helper()
	key := lattice.Key(s.Public())
	if s.Reveal() != bytes32(private) || key != lattice.Key(bytes32(public)) || key.String() != account {
		t.Errorf("private key is %x, public key %x, account %s; want %s, %s, %s", s.Reveal(), key[:], key, private, public, account)
	}
	if got, err := lattice.ParseAccount(account); err != nil || got != key {
		t.Errorf("account %s is read as %s: %v", account, got, err)
	}
}

func TestKeys(t *testing.T) {
	v := load(t)
	for _, k := range v.Keypairs {
		checkKey(t, lattice.NewSecret(bytes32(k.Private)), k.Private, k.Public, k.Account)
	}
	for _, k := range v.Seeds {
		checkKey(t, lattice.SeedKey(bytes32(k.Seed), k.Index), k.Private, k.Public, k.Account)
	}
	for _, k := range v.Phrases {
		seed, err := mnemonic.ToSeed(k.Mnemonic, k.Passphrase)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(seed.Reveal()); got != k.Seed {
			t.Errorf("seed of %q is %s; want %s", k.Mnemonic, got, k.Seed)
		}
		index, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(k.Path, "m/44'/165'/"), "'"))
		if err != nil {
			t.Fatal(err)
		}
		checkKey(t, lattice.FromMnemonic(seed, uint32(index)), k.Private, k.Public, k.Account)
	}
	for _, a := range v.Valid {
		if k, err := lattice.ParseAccount(a.Account); err != nil || k != lattice.Key(bytes32(a.Public)) {
			t.Errorf("account %s is read as %s: %v", a.Account, k, err)
		}
	}
	for _, a := range v.Invalid {
		if k, err := lattice.ParseAccount(a.Account); err == nil {
			t.Errorf("account %s is read as %s", a.Account, k)
		}
	}
}

func TestConstants(t *testing.T) {
	c := load(t).Constants
	if c.Amount != lattice.MaxRaw || c.Burn != lattice.Burn {
		t.Errorf("supply is %s, burn account %s", lattice.MaxRaw, lattice.Burn)
	}
	if c.Epochs["v1"] != lattice.EpochLink(1) || c.Epochs["v2"] != lattice.EpochLink(2) {
		t.Errorf("epoch links are %x and %x", lattice.EpochLink(1), lattice.EpochLink(2))
	}
	for name, typ := range map[string]uint8{
		"keepalive": lattice.TypeKeepalive, "publish": lattice.TypePublish,
		"confirm_req": lattice.TypeConfirmReq, "confirm_ack": lattice.TypeConfirmAck, "node_id_handshake": lattice.TypeHandshake,
		"telemetry_req": lattice.TypeTelemetryReq, "telemetry_ack": lattice.TypeTelemetry,
		"asc_pull_req": lattice.TypeAscPullReq, "asc_pull_ack": lattice.TypeAscPullAck,
	} {
		if c.Types[name] != typ {
			t.Errorf("type of %s is %d; want %d", name, typ, c.Types[name])
		}
	}
	for name, magic := range map[string]uint16{
		"dev": lattice.MagicDev, "beta": lattice.MagicBeta, "live": lattice.MagicLive, "test": lattice.MagicTest,
	} {
		if id, _, _ := strings.Cut(c.Networks[name], " "); number(id) != uint64(magic) {
			t.Errorf("magic of %s is %x; want %s", name, magic, id)
		}
	}
	for name, have := range map[string][2]uint64{
		"live": {lattice.LiveWorkSend, lattice.LiveWorkReceive}, "beta": {lattice.BetaWorkSend, lattice.BetaWorkReceive},
		"dev": {lattice.DevWorkSend, lattice.DevWorkReceive},
	} {
		var want [3]string
		if err := json.Unmarshal(c.Thresholds[name], &want); err != nil {
			t.Fatal(err)
		}
		if have != [2]uint64{number(want[1]), number(want[2])} {
			t.Errorf("work of %s is %x; want %s", name, have, want[1:])
		}
	}
	if c.Protocol != lattice.ProtocolUsing || c.Oldest != lattice.ProtocolMin {
		t.Errorf("protocol is %d, at least %d; want %d, %d", lattice.ProtocolUsing, lattice.ProtocolMin, c.Protocol, c.Oldest)
	}
}

// thresholds are the names that a vector's meets has.
var thresholds = map[string]uint64{
	"dev_epoch_1": 0xfe00000000000000, "dev_epoch_2": lattice.DevWorkSend, "dev_epoch_2_receive": lattice.DevWorkReceive,
	"epoch_1": 0xffffffc000000000, "epoch_2_send": lattice.LiveWorkSend, "epoch_2_receive": lattice.LiveWorkReceive,
}

func checkWork(t *testing.T, root [32]byte, work, difficulty string, meets []string) {
	t.Helper()
	value := lattice.WorkValue(root, number(work))
	if value != number(difficulty) {
		t.Errorf("work %s on %X has value %x; want %s", work, root, value, difficulty)
	}
	for name, threshold := range thresholds {
		want := strings.Contains(" "+strings.Join(meets, " ")+" ", " "+name+" ")
		if meets != nil && value >= threshold != want {
			t.Errorf("work %s on %X meets %s: %v", work, root, name, !want)
		}
	}
}

func TestWorkVectors(t *testing.T) {
	for _, w := range load(t).Work {
		checkWork(t, bytes32(w.Root), w.Work, w.Difficulty, w.Meets)
	}
}

// checkSignature holds both rules to what is known of a signature.
func checkSignature(t *testing.T, key lattice.Key, digest [32]byte, sig [64]byte, want bool) {
	t.Helper()
	if got := eddsa.Verify(eddsa.BLAKE2b512, key, digest[:], sig); got != want {
		t.Errorf("signature of %X: Nano's rule says %v; want %v", digest, got, want)
	}
	if got := lattice.Verify(key, digest[:], sig); got != want {
		t.Errorf("signature of %X: our rule says %v; want %v", digest, got, want)
	}
}

func TestBlocks(t *testing.T) {
	v := load(t)
	for _, x := range append(append(v.Blocks, v.Generated...), v.HashOnly...) {
		b := x.block()
		if got := b.Hash(); got != x.Hash {
			t.Errorf("block of %s has hash %s; want %s", x.Source, got, x.Hash)
		}
		if x.AccountPub != "" && x.AccountPub != b.Account.Hex() {
			t.Errorf("account %s is %s; want %s", b.Account, b.Account.Hex(), x.AccountPub)
		}
		if x.Signature != "" {
			checkSignature(t, b.Account, b.Hash(), b.Signature, x.Valid == nil || *x.Valid)
		}
		if x.Work != "" {
			checkWork(t, b.Root(), x.Work, x.Difficulty, x.Meets)
		}
		raw := b.Append(nil)
		if x.Serialized != "" && hex.EncodeToString(raw) != x.Serialized {
			t.Errorf("block %s is written %x; want %s", x.Hash, raw, x.Serialized)
		}
		if got, err := lattice.DecodeBlock(raw); err != nil || got != b {
			t.Errorf("block %s is read as %+v: %v", x.Hash, got, err)
		}
	}
}

// TestGeneratedBlocks follows the five blocks that nano_node V27.1 cemented: their
// messages, their kinds, and that we sign and work as they were.
func TestGeneratedBlocks(t *testing.T) {
	v := load(t)
	secrets := map[lattice.Key]eddsa.Secret{}
	for _, k := range v.Keypairs {
		s := lattice.NewSecret(bytes32(k.Private))
		secrets[s.Public()] = s
	}
	for _, k := range v.Seeds {
		s := lattice.SeedKey(bytes32(k.Seed), k.Index)
		secrets[s.Public()] = s
	}
	balances := map[lattice.Key]lattice.Raw{v.Generated[0].Account: v.Constants.Amount}
	for _, x := range v.Generated {
		b := x.block()
		m, err := lattice.Decode(unhex(x.Publish), lattice.MagicDev)
		if err != nil {
			t.Fatal(err)
		}
		if p := m.(*lattice.Publish); p.Block != b || p.Originator || hex.EncodeToString(p.Append(nil, lattice.MagicDev)) != x.Publish {
			t.Errorf("publish of %s is read as %+v", x.Hash, p)
		}
		before, known := balances[b.Account]
		if kind := b.Kind(before, !known); kind.String() != strings.Split(x.Subtype, " ")[0] {
			t.Errorf("block %s is a %s; want %s", x.Hash, kind, x.Subtype)
		}
		balances[b.Account] = b.Balance
		if strings.HasPrefix(x.Subtype, "epoch") {
			continue // signed by the dev network's genesis key, which here is the account's
		}
		again := b
		again.Sign(secrets[b.Account])
		if again != b {
			t.Errorf("we sign %s differently", x.Hash)
		}
	}
}

func TestLegacy(t *testing.T) {
	v := load(t)
	for _, x := range v.Legacy {
		hash := lattice.OpenHash(x.BlockSource, x.Representative, x.Account)
		if hash != x.Hash {
			t.Errorf("genesis of %s has hash %s; want %s", x.Source, hash, x.Hash)
		}
		checkSignature(t, x.Account, hash, [64]byte(unhex(x.Signature)), true)
		checkWork(t, x.Account, x.Work, x.Difficulty, x.Meets)
	}
	for _, x := range v.LegacyHash {
		var got lattice.Hash
		switch x.Type {
		case "send":
			b := unhex(x.BalanceHex)
			got = lattice.SendHash(x.Previous, x.Destination, lattice.Raw{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])})
		case "receive":
			got = lattice.ReceiveHash(x.Previous, x.BlockSource)
		case "change":
			got = lattice.ChangeHash(x.Previous, x.Representative)
		}
		if got != x.Hash {
			t.Errorf("%s has hash %s; want %s", x.Type, got, x.Hash)
		}
	}
}

func TestVotes(t *testing.T) {
	for _, x := range load(t).Votes {
		v := lattice.Vote{Account: x.Account, Hashes: x.Hashes, Signature: [64]byte(unhex(x.Signature))}
		if x.U64 != nil {
			v.Timestamp = *x.U64
		} else {
			v.Timestamp = number(x.U64Hex)
		}
		if got := lattice.Hash(v.Digest()); got != x.Digest {
			t.Errorf("vote of %s has digest %s; want %s", x.Account, got, x.Digest)
		}
		checkSignature(t, v.Account, v.Digest(), v.Signature, true)
		if x.Ack == "" {
			continue
		}
		raw := unhex(x.Ack)
		m, err := lattice.Decode(raw, lattice.MagicDev)
		if err != nil {
			t.Fatal(err)
		}
		ack := m.(*lattice.ConfirmAck)
		if got := hex.EncodeToString(ack.Append(nil, lattice.MagicDev)); got != x.Ack || ack.Vote.Timestamp != v.Timestamp {
			t.Errorf("vote is written %s; want %s", got, x.Ack)
		}
		if h := lattice.DecodeHeader([8]byte(raw)); uint64(h.Extensions) != number(x.Extensions[2:]) {
			t.Errorf("extensions are %#x; want %s", h.Extensions, x.Extensions)
		}
	}
	v := lattice.Vote{Timestamp: lattice.VoteTimestamp(1_700_000_000_007, 9)}
	if v.Timestamp != 0x18bcfe56809 || v.Millis() != 1_700_000_000_000 || v.Duration() != 8192 || v.Final() {
		t.Errorf("vote of %x is at %d ms, for %d ms", v.Timestamp, v.Millis(), v.Duration())
	}
}

func TestTelemetryVectors(t *testing.T) {
	for _, x := range load(t).Telemetry {
		payload := unhex(x.Payload)
		head := lattice.Header{
			Network: lattice.MagicLive, Max: 21, Using: 21, Min: 20, Type: lattice.TypeTelemetry, Extensions: uint16(len(payload)),
		}
		raw := append(head.Append(nil), payload...)
		m, err := lattice.Decode(raw, lattice.MagicLive)
		if err != nil {
			t.Fatal(err)
		}
		d := m.(*lattice.Telemetry)
		if !d.Signed() || d.Node.Node() != x.Node || string(d.Append(nil, lattice.MagicLive)) != string(raw) {
			t.Errorf("telemetry of %s is read as %+v", x.Node, d)
		}
		for name, have := range map[string]uint64{
			"block_count": d.Blocks, "cemented_count": d.Cemented, "unchecked_count": d.Unchecked, "account_count": d.Accounts,
			"bandwidth_cap": d.BandwidthCap, "peer_count": uint64(d.Peers), "protocol_version": uint64(d.Protocol), "uptime": d.Uptime,
			"major": uint64(d.Major), "minor": uint64(d.Minor), "patch": uint64(d.Patch), "pre": uint64(d.Pre), "maker": uint64(d.Maker),
			"timestamp_ms": d.Timestamp, "active_difficulty": d.ActiveDifficulty,
		} {
			if want, ok := x.Fields[name]; !ok || have != want {
				t.Errorf("%s of %s is %d; want %d", name, x.Node, have, want)
			}
		}
	}
}

func TestMessageVectors(t *testing.T) {
	v := load(t)
	cookie := [32]byte{}
	for _, x := range v.Messages {
		m, err := lattice.Decode(unhex(x.Hex), lattice.MagicDev)
		if err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
		if got := hex.EncodeToString(m.Append(nil, lattice.MagicDev)); got != x.Hex {
			t.Errorf("%s is written %s; want %s", x.Name, got, x.Hex)
		}
		switch m := m.(type) {
		case *lattice.Keepalive:
			if m.Peers[0].Addr().Unmap().String() != "127.0.0.1" || m.Peers[0].Port() != 44000 || m.Peers[1].Port() != 0 {
				t.Errorf("%s: peers are %v", x.Name, m.Peers)
			}
		case *lattice.Handshake:
			if m.Query != nil {
				cookie = *m.Query
				continue
			}
			if err := m.Response.Verify(cookie, x.Genesis); err != nil || m.Response.Node.Node() != x.Node {
				t.Errorf("%s: %s: %v", x.Name, m.Response.Node.Node(), err)
			}
			made := lattice.NewHandshakeResponse(lattice.NewSecret(bytes32(x.Private)), cookie, bytes32(x.Salt), x.Genesis)
			if *made != *m.Response {
				t.Errorf("%s: we answer %+v", x.Name, made)
			}
			if m.Response.Verify([32]byte{}, x.Genesis) == nil || m.Response.Verify(cookie, lattice.Hash{}) == nil {
				t.Errorf("%s: it is taken for another cookie or network", x.Name)
			}
		case *lattice.ConfirmReq:
			if len(m.Pairs) != 1 || m.Pairs[0].Hash != v.Generated[0].Hash || m.Pairs[0].Root != v.Generated[0].Previous {
				t.Errorf("%s: pairs are %v", x.Name, m.Pairs)
			}
		case *lattice.AscPullReq:
			want := map[uint64]lattice.Ask{
				7: lattice.AskBlocks{Start: v.Generated[0].Account, Count: 128},
				9: lattice.AskAccount{Target: v.Generated[0].Account},
				8: lattice.AskFrontiers{Count: 1000},
			}[m.ID]
			if m.Ask != want {
				t.Errorf("%s: asks for %+v; want %+v", x.Name, m.Ask, want)
			}
		}
	}
}
