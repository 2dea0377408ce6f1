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
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	all := []fleet.Set{}
	for _, name := range slices.Sorted(maps.Keys(c.state.known.Sets)) {
		all = append(all, c.state.known.View(name, c.state.known.Sets[name], false))
	}
	return all, nil
}

// Set implements fleet.Service.
func (c *Controller) Set(name string) (fleet.Set, error) {
	if err := c.mayAct(); err != nil {
		return fleet.Set{}, err
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	s := c.state.known.Sets[name]
	if s == nil {
		return fleet.Set{}, errNoSet(name)
	}
	return c.state.known.View(name, s, true), nil
}

// Hosts implements fleet.Service.
func (c *Controller) Hosts() ([]fleet.Host, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	all := []fleet.Host{}
	for _, id := range slices.Sorted(maps.Keys(c.state.known.Hosts)) {
		all = append(all, c.state.known.ViewHost(id, c.state.known.Hosts[id]))
	}
	return all, nil
}
