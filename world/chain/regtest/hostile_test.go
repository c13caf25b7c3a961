package regtest_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

const (
	// What the victim allows a peer: 5 ms of work at once and 10 ms a second.
	victimWork, victimMaxWork = 1000, 500

	attackTime = 300 * time.Millisecond

	// slack is for what is not counted, such as waking up to wait, and for a
	// busy machine. What is not rationed takes thirty times the share, a whole
	// core.
	slack = 6
)

// TestAHostilePeerCostsItsShare has a peer ask for what costs a node the most
// (BIP 37), as fast as it can, and measures the processor time of the node, which
// is a process of its own.
func TestAHostilePeerCostsItsShare(t *testing.T) {
	t.Parallel()
	v, unit := startVictim(t), unitHere(t)
	patient := append(encoded(patientFilter()), encoded(getData(wire.InvTypeFilteredBlock, v.fat, v.fat, v.fat, v.fat))...)
	small := make([]chainhash.Hash, wire.MaxInvPerMsg)
	unknown := wire.NewMsgInv()
	for i := range small {
		small[i] = v.small
		hash := chainhash.HashH([]byte{byte(i), byte(i >> 8)})
		unknown.InvList = append(unknown.InvList, wire.NewInvVect(wire.InvTypeTx, &hash))
	}
	large := wire.NewMsgFilterLoad(make([]byte, wire.MaxFilterLoadFilterSize), wire.MaxFilterLoadHashFuncs, 0, wire.BloomUpdateAll)
	for _, c := range []struct {
		name          string
		first, always []byte
	}{
		{"a filter is loaded again and again", nil, encoded(large)},
		{"a filter is added to again and again", encoded(large), encoded(wire.NewMsgFilterAdd(make([]byte, wire.MaxFilterAddDataSize)))},
		{"a block of pushes, which all pass all hash functions but the last", nil, patient},
		{"a small block, 50,000 times in a message", encoded(patientFilter()), encoded(getData(wire.InvTypeFilteredBlock, small...))},
		{"a large block, whole", nil, encoded(getData(wire.InvTypeWitnessBlock, v.fat))},
		{"the pool", encoded(patientFilter()), encoded(wire.NewMsgMemPool())},
		{"transactions of the pool", nil, encoded(getData(wire.InvTypeWitnessTx, v.waiting))},
		{"50,000 announcements of nothing in a message", nil, encoded(unknown)},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := v.cpu(t)
			began := time.Now()
			v.attack(t, c.first, c.always)
			took, cost := time.Since(began), v.cpu(t)-before
			allowed := time.Duration((victimWork*took.Seconds() + victimMaxWork) * float64(unit))
			t.Logf("%v of processor time in %v; %v is its share", cost, took, allowed)
			if cost > slack*allowed {
				t.Errorf("the peer cost %v of processor time in %v; its share is %v", cost, took, allowed)
			}
		})
	}
}

// patientFilter is a filter that 'X' passes up to the last of the hash functions,
// so that each push of it costs all of them and nothing ever matches.
func patientFilter() *wire.MsgFilterLoad {
	const seed = 0xfba4c795 // BIP 37
	for tweak := uint32(0); ; tweak++ {
		first := uint32(0)
		for first < wire.MaxFilterLoadHashFuncs && bloom.MurmurHash3(first*seed+tweak, []byte("X"))%8 != 0 {
			first++
		}
		if first == wire.MaxFilterLoadHashFuncs-1 {
			return wire.NewMsgFilterLoad([]byte{0xfe}, wire.MaxFilterLoadHashFuncs, tweak, wire.BloomUpdateAll)
		}
	}
}

// fatOutput is 10 kB of pushes of 'X'.
func fatOutput() *wire.TxOut {
	return wire.NewTxOut(0, append([]byte{txscript.OP_RETURN}, strings.Repeat("\x01X", pushes)...))
}

const pushes = 5000

// unitHere is a unit of work on this machine as it is now, with this build: the
// race detector makes one ten times as long.
func unitHere(t *testing.T) time.Duration {
	t.Helper()
	const units = pushes * 50 * (10 + 1) / 10_000 // 10 ns for each hash, and 1 for its byte
	fat := wire.NewMsgTx(2)
	fat.AddTxOut(fatOutput())
	filter, best := bloom.LoadFilter(patientFilter()), time.Hour
	for range 5 {
		began := time.Now()
		if filter.MatchTxAndUpdate(btcutil.NewTx(fat)) {
			t.Fatal("the filter matches what it was made to miss by one")
		}
		best = min(best, time.Since(began))
	}
	t.Logf("%d units take %v", units, best)
	return max(regtest.WorkUnit, best/units)
}

// A victim is a node in a process of its own.
type victim struct {
	addr                string
	fat, small, waiting chainhash.Hash // blocks, and a transaction in the pool
	in                  io.Writer
	out                 *bufio.Reader
}

// victimEnv makes TestVictim the victim.
const victimEnv = "COINOP_TEST_VICTIM"

func startVictim(t *testing.T) *victim {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), victimEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	v := &victim{in: in, out: bufio.NewReader(out)}
	for _, hash := range []*chainhash.Hash{&v.fat, &v.small, &v.waiting} {
		if err := chainhash.Decode(hash, v.line(t)); err != nil {
			t.Fatal(err)
		}
	}
	v.addr = v.line(t)
	return v
}

func (v *victim) line(t *testing.T) string {
	t.Helper()
	line, err := v.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// cpu is the processor time that the victim has used.
func (v *victim) cpu(t *testing.T) time.Duration {
	t.Helper()
	if _, err := io.WriteString(v.in, "cpu\n"); err != nil {
		t.Fatal(err)
	}
	d, err := time.ParseDuration(v.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// attack says the one thing and then the other again and again, and reads
// whatever comes.
func (v *victim) attack(t *testing.T, first, always []byte) {
	t.Helper()
	s := greetAt(t, v.addr)
	defer s.raw.Close()
	go io.Copy(io.Discard, s.raw)
	if err := s.raw.SetWriteDeadline(time.Now().Add(attackTime)); err != nil {
		t.Fatal(err)
	}
	for text := first; ; text = always {
		if _, err := s.raw.Write(text); err != nil {
			return
		}
	}
}

// TestVictim is not a test: it is the victim's process.
func TestVictim(t *testing.T) {
	if os.Getenv(victimEnv) == "" {
		t.Skip("this is the process that TestAHostilePeerCostsItsShare starts")
	}
	n := open(t, regtest.Options{Limits: regtest.Limits{Work: victimWork, MaxWork: victimMaxWork}})
	point, small := paid(t, n)
	fat := chaintest.Spend(point, chaintest.Value, 1, 2)
	for range 40 {
		fat.AddTxOut(fatOutput())
	}
	block, err := n.MineOnly(fat)
	if err != nil {
		t.Fatal(err)
	}
	const gift = 10_000_000
	if point, err = n.Faucet(chaintest.Script(1), gift); err != nil {
		t.Fatal(err)
	}
	mine(t, n, 1)
	waiting := chaintest.Spend(point, gift, 1, 2)
	for range 2000 {
		waiting.TxOut[0].Value -= 1000
		waiting.AddTxOut(wire.NewTxOut(900, chaintest.Script(2)))
	}
	if err := n.Publish(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%v\n%v\n%v\n%v\n", block, small, waiting.TxHash(), n.Addr())
	for in := bufio.NewReader(os.Stdin); ; {
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			t.Fatal(err)
		}
		fmt.Println(time.Duration(used.Utime.Nano() + used.Stime.Nano()))
	}
}
