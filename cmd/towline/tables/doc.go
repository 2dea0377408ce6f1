// Package tables writes plans, sets, leases, images, collections and the queue as tables for
// people. Texts that come from elsewhere are shown as [render.SafeText] has them.
package tables
