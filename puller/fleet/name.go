package fleet

import (
	"fmt"
	"strings"

	"github.com/towline/towline/puller"
)

// Limits of names, in bytes.
const (
	MaxFleetName  = 32
	MaxHostName   = 64
	MaxSetName    = 50
	MaxLabel      = 63 // the name of a label, and its value
	MaxLabels     = 32 // of a host, and of a set
	maxZoneName   = MaxLabel
	lower         = "abcdefghijklmnopqrstuvwxyz0123456789"
	letters       = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	nameBytes     = lower + "_-"
	hostNameBytes = letters + "_-"
	valueBytes    = letters + "_-."
)

// LabelHost and LabelZone are labels that each host has: its ID and its zone.
const (
	LabelHost = "host"
	LabelZone = "zone"
)

// faultOf returns what is wrong with a name, "" for nothing.
func faultOf(name, first, rest string, most int) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > most:
		return "is too long"
	}
	for i, r := range name {
		switch {
		case i == 0 && !strings.ContainsRune(first, r):
			return fmt.Sprintf("begins with %q", r)
		case !strings.ContainsRune(rest, r):
			return fmt.Sprintf("has %q", r)
		}
	}
	return ""
}

// CheckFleetName returns what is wrong with the name of a fleet, as ErrInvalidRequest.
func CheckFleetName(name string) error {
	if fault := faultOf(name, lower, lower+"-", MaxFleetName); fault != "" {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q %s; the name of a fleet has 1 to %d lower-case letters, digits and hyphens, and begins with one of the first two", puller.Clip(name), fault, MaxFleetName)
	}
	return nil
}

// CheckHost returns what is wrong with the ID of a host, as ErrInvalidRequest.
func CheckHost(id string) error {
	if fault := faultOf(id, letters, hostNameBytes, MaxHostName); fault != "" {
		return puller.Errorf(puller.ErrInvalidRequest, "host: %q %s; the ID of a host has 1 to %d letters, digits, hyphens and underscores, and begins with one of the first two", puller.Clip(id), fault, MaxHostName)
	}
	return nil
}

// CheckSetName returns what is wrong with the name of a set of a fleet, as
// ErrInvalidRequest.
func CheckSetName(name string) error {
	if fault := faultOf(name, lower, nameBytes, MaxSetName); fault != "" {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q %s; the name of a set of a fleet has 1 to %d lower-case letters, digits, hyphens and underscores, and begins with one of the first two", puller.Clip(name), fault, MaxSetName)
	}
	return nil
}

// CheckZone returns what is wrong with the name of a zone, as ErrInvalidRequest.
func CheckZone(zone string) error {
	if fault := faultOf(zone, valueBytes, valueBytes, maxZoneName); zone != "" && fault != "" {
		return puller.Errorf(puller.ErrInvalidRequest, "zone: %q %s; the name of a zone has up to %d letters, digits, dots, hyphens and underscores", puller.Clip(zone), fault, maxZoneName)
	}
	return nil
}

// CheckLabels returns what is wrong with labels of a host, as ErrInvalidRequest. field is
// what they are called there.
func CheckLabels(field string, labels map[string]string) error {
	if err := checkLabels(field, labels); err != nil {
		return err
	}
	for _, own := range []string{LabelHost, LabelZone} {
		if _, ok := labels[own]; ok {
			return puller.Errorf(puller.ErrInvalidRequest, "%s: the label %q: each host has it by itself; leave it out", field, own)
		}
	}
	return nil
}

// CheckSelector returns what is wrong with the labels by which a set chooses hosts, as
// ErrInvalidRequest.
func CheckSelector(labels map[string]string) error { return checkLabels("hosts", labels) }

func checkLabels(field string, labels map[string]string) error {
	if len(labels) > MaxLabels {
		return puller.Errorf(puller.ErrInvalidRequest, "%s: %d labels; there are at most %d", field, len(labels), MaxLabels)
	}
	for name, value := range labels {
		if fault := faultOf(name, lower, nameBytes, MaxLabel); fault != "" {
			return puller.Errorf(puller.ErrInvalidRequest, "%s: the label %q %s; its name has 1 to %d lower-case letters, digits, hyphens and underscores, and begins with one of the first two", field, puller.Clip(name), fault, MaxLabel)
		}
		if fault := faultOf(value, valueBytes, valueBytes, MaxLabel); fault != "" {
			return puller.Errorf(puller.ErrInvalidRequest, "%s: the label %q has the value %q, which %s; a value has 1 to %d letters, digits, dots, hyphens and underscores", field, name, puller.Clip(value), fault, MaxLabel)
		}
	}
	return nil
}
