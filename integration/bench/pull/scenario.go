package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/towline/towline/integration/lab"
)

// scenario is images and a link.
type scenario struct {
	name, title string
	kind        string           // of images
	link        *lab.LinkOptions // nil: the registry on loopback
	peers       []string
	measure     func(ctx context.Context, s *site, images []image) error // instead of peers
}

var scenarios = []scenario{
	{
		name: "far", title: "8 images of 3 × 20 MB of their own and one layer of 30 MB that they share; 40 ms, 10 MB/s a connection, 100 MB/s in all",
		kind: "eight", link: &lab.LinkOptions{RTT: 40 * time.Millisecond, PerConnection: 10 * mb, Total: 100 * mb},
		peers: []string{"docker pull", "docker pull with 16 downloads", "docker compose pull", "towline plain", "towline"},
	},
	{
		name: "layer", title: "one image of one layer of 300 MB; 40 ms, 10 MB/s a connection, 100 MB/s in all",
		kind: "one", link: &lab.LinkOptions{RTT: 40 * time.Millisecond, PerConnection: 10 * mb, Total: 100 * mb},
		peers: []string{"docker pull", "towline"},
	},
	{
		name: "loopback", title: "8 images of 3 × 20 MB of their own and one layer of 30 MB that they share; a registry on loopback",
		kind: "eight", peers: []string{"docker pull", "docker pull with 16 downloads", "docker compose pull", "towline plain", "towline"},
	},
	{
		name: "slow", title: "8 images of 3 × 20 MB of their own and one layer of 30 MB that they share; 100 ms, 2 MB/s a connection, 40 MB/s in all",
		kind: "eight", link: &lab.LinkOptions{RTT: 100 * time.Millisecond, PerConnection: 2 * mb, Total: 40 * mb},
		peers: []string{"docker pull", "docker pull with 16 downloads", "towline"},
	},
	{name: "present", title: "an image that is there", kind: "small", measure: present},
}

func names() (all []string) {
	for _, c := range scenarios {
		all = append(all, c.name)
	}
	return all
}

// measure has the scenario's peers take turns.
func (s *site) measure(ctx context.Context, c scenario) error {
	images, err := s.push(ctx, c.kind)
	if err != nil {
		return err
	}
	fmt.Printf("\n### %s\n\n", c.title)
	if c.measure != nil {
		return c.measure(ctx, s, images)
	}
	r := round{images: images}
	host := s.registry.Addr()
	if c.link != nil {
		opts := *c.link
		opts.Listen = address + ":0"
		if r.link, err = lab.StartLink(s.registry.Addr(), opts); err != nil {
			return err
		}
		defer r.link.Close()
		host = r.link.Addr()
	}
	for _, i := range images {
		r.refs = append(r.refs, host+"/"+i.repo+":v1")
	}
	var taking []peer
	for n, name := range c.peers {
		p := peers[slices.IndexFunc(peers, func(p peer) bool { return p.name == name })]
		if s.alone != "" && s.alone != name || n > 0 && s.alone == "" && len(s.with) > 0 && !slices.Contains(s.with, name) || name == "docker compose pull" && s.compose == "" {
			continue
		}
		taking = append(taking, p)
	}
	results := make([][]measurement, len(taking))
	for n := range s.runs {
		for k := range taking {
			i := (n + k) % len(taking) // nobody is always the first
			m, err := s.take(ctx, taking[i], r)
			if err != nil {
				return fmt.Errorf("%s: %w", taking[i].name, err)
			}
			fmt.Fprintf(os.Stderr, "%s, round %d: %s %.2f s\n", c.name, n+1, taking[i].name, m.seconds)
			results[i] = append(results[i], m)
		}
	}
	for _, engine := range []*lab.Engine{s.engine, s.wide} {
		if err := empty(ctx, engine, r.refs); err != nil {
			return err
		}
	}
	printTable(taking, results)
	return nil
}
