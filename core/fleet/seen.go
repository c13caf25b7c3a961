package fleet

import (
	"slices"

	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// see notes that a device was heard of. What it owes an answer for is sent again
// when it comes up, and then and when it says its Status it is told the time.
func (f *Fleet) see(ev Seen, now step.Time, fx *step.Effects) {
	d := f.devices[ev.Name]
	if d == nil || d.Revoked {
		return
	}
	came, firmware := ev.Online && !d.online, plain(ev.Firmware, MaxFirmware)
	news := ev.Online != d.online
	if firmware != "" && firmware != d.firmware {
		d.firmware, news = firmware, true
		f.touch(d)
	}
	d.online = ev.Online
	if minute := now - now%step.Minute; minute > d.seen {
		d.seen = minute
		f.touch(d)
	}
	if news {
		f.note(journal.DeviceSeen, d.Name, seenNote{d.online, d.firmware}, fx)
	}
	if came || ev.Online && ev.Firmware != "" { // before a command with a deadline
		fx.Send = append(fx.Send, step.Packet{To: d.door(), Msg: Time{now}})
	}
	if came {
		f.sign(d, fx)
		f.sendAll(d, now, fx)
	}
}

// sign sends a device with a key its policy: what it may pay by itself. That of a
// revoked one has ended long ago.
func (f *Fleet) sign(d *device, fx *step.Effects) {
	if d.Key == (keys.Public{}) {
		return
	}
	p := Policy{Device: d.Name, Version: d.Version, Limits: d.Limits, Payees: d.Payees}
	if d.Revoked {
		p.Expires = 1
	}
	fx.Send = append(fx.Send, step.Packet{To: d.door(), Msg: p.Seal(f.config.Node, d.Key, keys.Secret{})})
}

// door is where a device is reached.
func (d *device) door() string {
	if d.linked {
		return d.Key.PeerName()
	}
	return Outlet(d.Name)
}

type seenNote struct {
	Online   bool   `json:"online"`
	Firmware string `json:"firmware,omitempty"`
}

// fault keeps what is wrong. The same words within an hour are counted, not
// kept again, and not told: whoever forges acknowledgements cannot fill a disk.
func (f *Fleet) fault(d *device, text string, now step.Time, fx *step.Effects) {
	text = plain(text, MaxText)
	f.touch(d)
	if n := len(d.faults); n > 0 && d.faults[n-1].Text == text && now-d.faults[n-1].At < step.Hour {
		d.faults[n-1].Count++
		return
	}
	if len(d.faults) == MaxFaults {
		if now-d.faults[0].At < step.Minute { // it cannot stop talking
			d.faults[MaxFaults-1].Count++
			return
		}
		d.faults = slices.Delete(d.faults, 0, 1)
	}
	d.faults = append(d.faults, Fault{now, text, 1})
	f.note(journal.DeviceFault, d.Name, faultNote{text}, fx)
}

type faultNote struct {
	Text string `json:"text"`
}
