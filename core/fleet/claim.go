package fleet

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/address/v2/bech32"

	"coinop.dev/core/codec"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// CodeSize is the random bytes of a claim code: two that find the invitation
	// and eight that nobody guesses in MaxTries.
	CodeSize = idSize + 8
	idSize   = 2
	// MaxTries is how many wrong codes end an invitation. Doors limit how often a
	// stranger may try at all.
	MaxTries = 5
	// MaxInvites bounds invitations that have not expired.
	MaxInvites = 4096
	// MaxValid bounds how long a code may lie about.
	MaxValid = 30 * step.Day

	codePrefix = "cp"
)

// Code writes a claim code for people and for a QR code's alphanumeric mode:
// bech32m (BIP 350) in capitals, CP1 and 22 characters. The checksum finds every
// slip of up to three.
func Code(raw [CodeSize]byte) string {
	fives, err := bech32.ConvertBits(raw[:], 8, 5, true)
	step.Assert(err == nil, "fleet: a claim code: %v", err)
	text, err := bech32.EncodeM(codePrefix, fives)
	step.Assert(err == nil, "fleet: a claim code: %v", err)
	return strings.ToUpper(text)
}

// ParseCode reads a claim code, in either case, with spaces and hyphens wherever
// people put them.
func ParseCode(text string) (raw [CodeSize]byte, err error) {
	text = strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' {
			return -1
		}
		return c
	}, text)
	bad := errors.New("this is no claim code: it begins with CP1, and its checksum must fit; copy it again")
	if len(text) > 64 {
		return raw, bad
	}
	prefix, fives, version, err := bech32.DecodeGeneric(text)
	if err != nil || prefix != codePrefix || version != bech32.VersionM {
		return raw, bad
	}
	b, err := bech32.ConvertBits(fives, 5, 8, false)
	if err != nil || len(b) != len(raw) {
		return raw, bad
	}
	return [CodeSize]byte(b), nil
}

// Invite allows whoever shows a code, once and before Expires, to become the
// device of the profile. Code is random bytes that the operator's machine drew;
// only a hash of them is kept. With Replace the device is there already: another
// hardware takes its place, and the old one is out. The outcome's value is the
// code as text.
type Invite struct {
	Ask     string
	Code    [CodeSize]byte
	Device  Profile // of a Replace only the name counts
	Replace bool
	Expires step.Time
}

// Claim shows a code and binds a device's key; a zero key is of a device that
// will share a secret. The outcome's value is a Claimed. Asked again with the same
// key it is the same; a device without a key cannot ask again, because the answer
// leads to its secret.
type Claim struct {
	Ask  string
	Code string
	Key  keys.Public
}

// Claimed is who a device is now.
type Claimed struct {
	Profile
	Gateway keys.Public // whose commands it obeys
	Number  int         // of this gateway
}

type invite struct {
	profile Profile
	replace bool
	hash    [32]byte
	expires step.Time
	tries   int
	used    bool
	key     keys.Public // of the device that used it
}

func codeHash(raw [CodeSize]byte) [32]byte { return keys.Digest("coinop/fleet/code", raw[:]) }

func (f *Fleet) invite(ev Invite, now step.Time, fx *step.Effects) {
	f.dropInvites(now, fx)
	p := ev.Device
	p.Key, p.Revoked, p.Version, p.Generation = keys.Public{}, false, 0, 0
	p = p.clone()
	id := [idSize]byte(ev.Code[:idSize])
	err := p.Check()
	switch d := f.devices[p.Name]; {
	case err != nil:
	case ev.Expires <= now || ev.Expires > now+MaxValid:
		err = fmt.Errorf("the code would expire at %d ms; that must be within %d days", ev.Expires, MaxValid/step.Day)
	case d != nil && !ev.Replace:
		err = fmt.Errorf("device %s is there already; replace it to give its place to another hardware", p.Name)
	case ev.Replace && (d == nil || d.Revoked):
		err = fmt.Errorf("device %s is not in service, so there is nothing to replace", p.Name)
	case f.invites[id] != nil:
		err = errors.New("that code is too much like another one; draw a new one")
	case len(f.invites) >= MaxInvites:
		err = fmt.Errorf("%d invitations are open, which is the limit; they expire", MaxInvites)
	}
	if err != nil {
		f.fail(ev.Ask, money.Refused, "invite", err, fx)
		return
	}
	v := &invite{profile: p, replace: ev.Replace, hash: codeHash(ev.Code), expires: ev.Expires}
	f.invites[id] = v
	fx.Put = append(fx.Put, v.record(id))
	f.done(ev.Ask, Code(ev.Code), fx)
}

func (f *Fleet) dropInvites(now step.Time, fx *step.Effects) {
	var old [][idSize]byte
	for id, v := range f.invites {
		if v.expires <= now {
			old = append(old, id)
		}
	}
	slices.SortFunc(old, func(a, b [idSize]byte) int { return slices.Compare(a[:], b[:]) })
	for _, id := range old {
		delete(f.invites, id)
		fx.Put = append(fx.Put, step.Record{Key: inviteKey(id)})
	}
}

// errCode says no more than it must: not whether the code was ever good.
var errCode = errors.New("the claim code is unknown, used or expired; ask the operator for another")

func (f *Fleet) claim(ev Claim, now step.Time, fx *step.Effects) {
	raw, err := ParseCode(ev.Code)
	if err != nil {
		f.fail(ev.Ask, money.Invalid, "claim", err, fx)
		return
	}
	id := [idSize]byte(raw[:idSize])
	v := f.invites[id]
	if v == nil || v.expires <= now || v.tries >= MaxTries {
		f.fail(ev.Ask, money.Refused, "claim", errCode, fx)
		return
	}
	if hash := codeHash(raw); subtle.ConstantTimeCompare(hash[:], v.hash[:]) != 1 {
		v.tries++
		fx.Put = append(fx.Put, v.record(id))
		f.fail(ev.Ask, money.Refused, "claim", errCode, fx)
		return
	}
	if v.used {
		d := f.devices[v.profile.Name]
		if d == nil || d.Revoked || d.Key != v.key || ev.Key != v.key || v.key == (keys.Public{}) {
			f.fail(ev.Ask, money.Refused, "claim", errCode, fx)
			return
		}
		f.done(ev.Ask, f.claimed(d), fx)
		return
	}
	d, err := f.bind(v, ev.Key, now, fx)
	if err != nil {
		f.fail(ev.Ask, money.Refused, "claim", err, fx)
		return
	}
	v.used, v.key = true, ev.Key
	fx.Put = append(fx.Put, v.record(id))
	f.done(ev.Ask, f.claimed(d), fx)
}

func (f *Fleet) claimed(d *device) Claimed {
	return Claimed{Profile: d.Profile.clone(), Gateway: f.config.Node.Public(), Number: f.config.Number}
}

// bind makes the device of an invitation, or gives it another key.
func (f *Fleet) bind(v *invite, key keys.Public, now step.Time, fx *step.Effects) (*device, error) {
	p := v.profile
	d := f.devices[p.Name]
	if v.replace {
		if d == nil || d.Revoked {
			return nil, errRevoked
		}
		if owner := f.byKey[key]; owner != nil {
			return nil, fmt.Errorf("its key is that of device %s; every hardware needs one of its own", owner.Name)
		}
		p = d.Profile
		p.Version++
	}
	p.Key = key
	if v.replace {
		if err := p.Check(); err != nil {
			return nil, err
		}
		p.Generation = f.generation + 1
		f.apply(d, p, now, fx)
		f.note(journal.DeviceChanged, d.Name, p, fx)
		return d, nil
	}
	p.Version = 1
	if err := f.mayAdd([]Profile{p}); err != nil {
		return nil, err
	}
	return f.enrol(p, fx), nil
}

// Records.

const invitePrefix = "fleet/i/"

func inviteKey(id [idSize]byte) string { return invitePrefix + string(id[:]) }

func (v *invite) record(id [idSize]byte) step.Record {
	b := v.profile.append(nil)
	b = append(b, byte(bit(v.replace)+2*bit(v.used)))
	b = append(b, v.hash[:]...)
	b = codec.AppendUint(b, int64(v.expires))
	b = codec.AppendUint(b, v.tries)
	return step.Record{Key: inviteKey(id), Value: append(b, v.key[:]...)}
}

func (f *Fleet) readInvite(name string, r *codec.Reader) {
	v := &invite{profile: readProfile(r)}
	flags := r.Int(3, "flags")
	v.replace, v.used = flags&1 == 1, flags&2 == 2
	r.Fill(v.hash[:])
	v.expires, v.tries = readTime(r), r.Int(MaxTries, "tries")
	r.Fill(v.key[:])
	if len(name) != idSize {
		r.Fail(fmt.Errorf("%q is no invitation", name))
		return
	}
	f.invites[[idSize]byte([]byte(name))] = v
}
