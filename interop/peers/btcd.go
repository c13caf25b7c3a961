package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// BtcdOptions are what a btcd is started with.
type BtcdOptions struct {
	Home    string // its folder
	Connect string // a peer to connect to; "" to wait for peers
	Plain   bool   // RPC without TLS
}

// A Btcd is a running btcd of an empty regtest chain, which it forgets when it
// ends. What it mines, anybody may spend.
type Btcd struct {
	*Process
	Peer     string // where it listens to peers
	RPC      string // where it listens to RPC
	CertFile string // of the RPC

	ctx    context.Context
	plain  bool
	client http.Client
	spent  int64 // height of the last reward that Fund has spent
}

// Credentials of every Btcd's RPC; it listens on loopback only.
const rpcUser, rpcPass = "u", "p"

// anyone is the witness script of the rewards: OP_TRUE.
var anyone = []byte{txscript.OP_TRUE}

// StartBtcd builds and runs a btcd.
func StartBtcd(ctx context.Context, o BtcdOptions) (*Btcd, error) {
	path, err := btcd.build(ctx)
	if err != nil {
		return nil, err
	}
	b := &Btcd{ctx: ctx, plain: o.Plain, CertFile: filepath.Join(o.Home, "rpc.cert")}
	var faults [2]error
	b.Peer, faults[0] = FreeAddr()
	b.RPC, faults[1] = FreeAddr()
	if err := errors.Join(faults[:]...); err != nil {
		return nil, err
	}
	program := sha256.Sum256(anyone)
	reward, err := address.NewAddressWitnessScriptHash(program[:], &chaincfg.RegressionNetParams)
	if err != nil {
		return nil, err
	}
	// btcd reads a config file, its own sample if there is none.
	config := filepath.Join(o.Home, "btcd.conf")
	if err := os.WriteFile(config, []byte("[Application Options]\n"), 0o600); err != nil {
		return nil, err
	}
	args := []string{
		"--regtest", "--nodnsseed", "--configfile=" + config, "--datadir=" + o.Home, "--logdir=" + o.Home,
		"--listen=" + b.Peer, "--rpclisten=" + b.RPC, "--rpcuser=" + rpcUser, "--rpcpass=" + rpcPass,
		"--rpccert=" + b.CertFile, "--rpckey=" + filepath.Join(o.Home, "rpc.key"),
		"--miningaddr=" + reward.String(), "--trickleinterval=50ms", "--txindex",
	}
	if o.Connect != "" {
		args = append(args, "--connect="+o.Connect)
	}
	if o.Plain {
		args = append(args, "--notls")
	}
	if b.Process, err = start(ctx, "btcd", path, o.Home, args...); err != nil {
		return nil, err
	}
	if err := b.await(ctx, "it answers", func() error { return b.Call("getblockcount", new(int)) }); err != nil {
		b.Kill()
		return nil, fmt.Errorf("%w\n%s", err, b.Log())
	}
	return b, nil
}

// Call is one call of btcd's JSON-RPC.
func (b *Btcd) Call(method string, result any, params ...any) error {
	scheme := "https://"
	if b.plain {
		scheme = "http://"
		b.client.Timeout = patience
	} else if b.client.Transport == nil {
		pem, err := os.ReadFile(b.CertFile)
		if err != nil {
			return err // not written yet
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s is not a certificate yet", b.CertFile)
		}
		b.client = http.Client{Timeout: patience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, IdleConnTimeout: time.Second,
		}}
	}
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ask, err := http.NewRequestWithContext(b.ctx, http.MethodPost, scheme+b.RPC, bytes.NewReader(body))
	if err != nil {
		return err
	}
	ask.SetBasicAuth(rpcUser, rpcPass)
	answer, err := b.client.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var got struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return fmt.Errorf("%s: %s: %w", method, answer.Status, err)
	}
	if got.Error != nil {
		return fmt.Errorf("%s: %s", method, got.Error.Message)
	}
	return json.Unmarshal(got.Result, result)
}

// Mine mines blocks.
func (b *Btcd) Mine(blocks int) error { return b.Call("generate", new([]string), blocks) }

// MineMempool waits until the mempool holds at least so many transactions, and
// mines blocks.
func (b *Btcd) MineMempool(ctx context.Context, txs, blocks int) error {
	err := b.await(ctx, "the transactions reach btcd", func() error {
		var ids []string
		if err := b.Call("getrawmempool", &ids); err != nil || len(ids) >= txs {
			return err
		}
		return fmt.Errorf("the mempool has %d transactions of %d", len(ids), txs)
	})
	if err != nil {
		return err
	}
	return b.Mine(blocks)
}

// Height is the best block's.
func (b *Btcd) Height() (height int64, err error) {
	err = b.Call("getblockcount", &height)
	return height, err
}

const (
	maturity = 100        // blocks until a reward can be spent
	fundFee  = 10_000     // sat
	maxCoins = 100        // outputs of one funding
	subsidy  = 5e9        // sat, of the first 150 blocks of regtest
	halving  = int64(150) // blocks
)

// Fund pays satoshi to an address in so many outputs, and mines a block. A
// wallet with several outputs can fund several channels at once.
func (b *Btcd) Fund(to string, sat int64, coins int) error {
	height, err := b.Height()
	if err != nil {
		return err
	}
	b.spent++
	if b.spent >= halving || sat+fundFee > subsidy || coins < 1 || coins > maxCoins {
		return fmt.Errorf("fund: %d sat in %d coins out of reward %d is too much", sat, coins, b.spent)
	}
	if missing := b.spent + maturity - height; missing > 0 {
		if err := b.Mine(int(missing)); err != nil {
			return err
		}
	}
	where, err := address.DecodeAddress(to, &chaincfg.RegressionNetParams)
	if err != nil {
		return err
	}
	script, err := txscript.PayToAddrScript(where)
	if err != nil {
		return err
	}
	reward, err := b.reward(b.spent)
	if err != nil {
		return err
	}
	t := wire.NewMsgTx(2)
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: reward}, Witness: wire.TxWitness{anyone}, Sequence: wire.MaxTxInSequenceNum})
	for range coins {
		t.AddTxOut(wire.NewTxOut(sat/int64(coins), script))
	}
	t.AddTxOut(wire.NewTxOut(subsidy-sat-fundFee, anyoneScript()))
	var raw bytes.Buffer
	if err := t.Serialize(&raw); err != nil {
		return err
	}
	if err := b.Call("sendrawtransaction", new(string), hex.EncodeToString(raw.Bytes())); err != nil {
		return err
	}
	return b.Mine(1)
}

func anyoneScript() []byte {
	program := sha256.Sum256(anyone)
	return append([]byte{txscript.OP_0, byte(len(program))}, program[:]...)
}

// reward is the coinbase transaction of a block.
func (b *Btcd) reward(height int64) (id chainhash.Hash, err error) {
	var hash string
	if err := b.Call("getblockhash", &hash, height); err != nil {
		return id, err
	}
	var block struct{ Tx []string }
	if err := b.Call("getblock", &block, hash, 1); err != nil {
		return id, err
	}
	known, err := chainhash.NewHashFromStr(block.Tx[0])
	if err != nil {
		return id, err
	}
	return *known, nil
}
