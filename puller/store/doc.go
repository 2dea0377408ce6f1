// Package store has the words of what is kept over a restart: the records of jobs in a
// Store, and those of sets, leases and images in Records. puller/bolt keeps them on disk, and
// puller/storetest in memory.
package store
