package control

import (
	"maps"
	"slices"

	"github.com/towline/towline/puller/fleet"
)

// Sets implements fleet.Service.
func (c *Controller) Sets() ([]fleet.Set, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []fleet.Set{}
	for _, name := range slices.Sorted(maps.Keys(c.known.Sets)) {
		all = append(all, c.known.View(name, c.known.Sets[name], false))
	}
	return all, nil
}

// Set implements fleet.Service.
func (c *Controller) Set(name string) (fleet.Set, error) {
	if err := c.mayAct(); err != nil {
		return fleet.Set{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.known.Sets[name]
	if s == nil {
		return fleet.Set{}, errNoSet(name)
	}
	return c.known.View(name, s, true), nil
}

// Hosts implements fleet.Service.
func (c *Controller) Hosts() ([]fleet.Host, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []fleet.Host{}
	for _, id := range slices.Sorted(maps.Keys(c.known.Hosts)) {
		all = append(all, c.known.ViewHost(id, c.known.Hosts[id]))
	}
	return all, nil
}
