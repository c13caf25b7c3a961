package node

// Size counts everything that the node keeps in memory.
func (n *Node) Size() int {
	return len(n.vertices) + len(n.makers) + len(n.pages) + len(n.recent) + len(n.recents) + len(n.entries) +
		len(n.refused[0]) + len(n.queued) + len(n.queue) + len(n.pool) + len(n.waiters) + len(n.wants) + len(n.wantList) +
		len(n.milestones) + len(n.own) + len(n.due) + len(n.db.earlier) + len(n.fresh) + len(n.later) + n.dag.Len()
}
