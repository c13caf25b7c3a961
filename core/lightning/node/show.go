package node

import "coinop.dev/core/lightning/channel"

// Channels are the node's channels by their numbers, to be looked at only.
func (n *Node) Channels() (list []*channel.Channel) {
	for _, c := range n.ordered() {
		list = append(list, c.Channel)
	}
	return list
}
