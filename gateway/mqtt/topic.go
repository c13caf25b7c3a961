package mqtt

import (
	"fmt"
	"strings"

	"coinop.dev/core/offer"
)

// Root is the first level of every topic.
const Root = "coinop"

// The classes of topics, the level after the device.
const (
	Event   = "event"   // from the device: up, pay, ack, fault, meter
	Command = "command" // to the device: pay, and the verbs of its services
	Offers  = "offer"   // to the device, retained: what it sells, and for how much
	Receipt = "receipt" // to the device: answers to what it has asked
	Buying  = "offers"  // coinop/offers/{client}: a buyer asks, and …/reply answers
	Reply   = "reply"
	Inbox   = "gateways" // coinop/gateways/{name}/…: what gateways tell one another
)

// The kinds of events. A device may have others of its own.
const (
	Up    = "up"
	Pay   = "pay"
	Ack   = "ack"
	Fault = "fault"
	Meter = "meter"
)

// A Topic is a topic of this door, in parts:
//
//	coinop/{tenant}/{device}/event/{kind}
//	coinop/{tenant}/{device}/command/{kind}
//	coinop/{tenant}/{device}/offer
//	coinop/{tenant}/{device}/receipt
//	coinop/offers/{client}
//	coinop/offers/{client}/reply
type Topic struct {
	Tenant string // empty for a buyer's
	Name   string // the device or the client
	Class  string // Event, Command, Offers, Receipt, Buying or Reply
	Kind   string // of an Event or a Command
}

// String is the topic as it is published to.
func (t Topic) String() string {
	switch t.Class {
	case Buying:
		return Root + "/" + Buying + "/" + t.Name
	case Reply:
		return Root + "/" + Buying + "/" + t.Name + "/" + Reply
	case Offers, Receipt:
		return Root + "/" + t.Tenant + "/" + t.Name + "/" + t.Class
	}
	return Root + "/" + t.Tenant + "/" + t.Name + "/" + t.Class + "/" + t.Kind
}

// ValidTenant reports whether s can be a tenant: a name that no topic of
// another shape begins with.
func ValidTenant(s string) bool { return offer.ValidName(s) && s != Buying && s != Inbox }

// ParseTopic reads a topic without wildcards. The error names what is wrong.
func ParseTopic(s string) (t Topic, err error) {
	if len(s) > MaxTopic {
		return t, fmt.Errorf("topic is %d bytes; the limit is %d", len(s), MaxTopic)
	}
	rest, ok := strings.CutPrefix(s, Root+"/")
	if !ok {
		return t, fmt.Errorf("topic %q does not begin with %s/", s, Root)
	}
	var part [MaxDepth]string
	n := 0
	for more := true; more; n++ {
		if n == MaxDepth-1 {
			return t, fmt.Errorf("topic %q has more than %d levels", s, MaxDepth)
		}
		part[n], rest, more = strings.Cut(rest, "/")
		if !offer.ValidName(part[n]) {
			return t, fmt.Errorf("topic %q: level %q is not a name of a-z 0-9 . _ -", s, part[n])
		}
	}
	switch {
	case part[0] == Buying && n == 2:
		return Topic{Name: part[1], Class: Buying}, nil
	case part[0] == Buying && n == 3 && part[2] == Reply:
		return Topic{Name: part[1], Class: Reply}, nil
	case !ValidTenant(part[0]):
	case n == 3 && (part[2] == Offers || part[2] == Receipt):
		return Topic{Tenant: part[0], Name: part[1], Class: part[2]}, nil
	case n == 4 && (part[2] == Event || part[2] == Command):
		return Topic{part[0], part[1], part[2], part[3]}, nil
	}
	return t, fmt.Errorf("topic %q is none of this gateway's", s)
}

// owner is the beginning of all topics that belong to w.
func (w Who) owner() string {
	if w.IsDevice() {
		return Root + "/" + w.Tenant + "/" + w.Name + "/"
	}
	return Root + "/" + Buying + "/" + w.Name + "/"
}

// mayPublish reports whether w may publish on t. A device has its own events and
// whatever is asked of the till: offers in its own name, and commands to
// devices, which are for sale and reach nobody unpaid.
func (w Who) mayPublish(t Topic) bool {
	switch t.Class {
	case Event:
		return w.Tenant == t.Tenant && w.Name == t.Name
	case Buying:
		return !w.IsDevice() && w.Name == t.Name
	}
	return t.Class == Command
}

// mayRead reports whether w may subscribe to a filter: below its own topics,
// wildcards included, or the price list of one device.
func (w Who) mayRead(filter string) bool {
	if own, ok := strings.CutPrefix(filter, w.owner()); ok {
		return own != "" && len(filter) <= MaxTopic && strings.Count(filter, "/") < MaxDepth
	}
	t, err := ParseTopic(filter)
	return err == nil && t.Class == Offers
}

// mayAnswerOn reports whether an answer to w may go to a topic of its choice:
// only to one that is its own, or anyone could speak to a device in the
// gateway's name.
func (w Who) mayAnswerOn(topic string) bool {
	own, ok := strings.CutPrefix(topic, w.owner())
	return ok && own != "" && !strings.HasPrefix(own, Command+"/") && !strings.ContainsAny(own, "+#") && len(topic) <= MaxTopic
}

// matches reports whether a topic fits a filter (MQTT 5, section 4.7).
func matches(filter, topic string) bool {
	for {
		f, fs, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, ts, tMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !fMore && !tMore {
			return true
		}
		if !tMore {
			return fs == "#" // "a/#" is also "a"
		}
		if !fMore {
			return false
		}
		filter, topic = fs, ts
	}
}
