package peers

import "github.com/towline/towline/puller/fleet/peers/wire"

// Dial makes a Node connect to others in another way.
func (n *Node) Dial(dial wire.Dial) { n.client = wire.NewClient(inTime, dial) }
