package room

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/towline/towline/puller"
)

// ratio is how many bytes a fetched byte has unpacked. It is kept in this form.
type ratio struct {
	Store   string    `json:"store"`           // the engine's image store
	Image   string    `json:"image,omitempty"` // the repository, "" for all of the store
	Ratio   float64   `json:"ratio"`
	Learned time.Time `json:"learned"`

	saved float64 // what the disk has, 0 for nothing
}

const (
	// ratioKind is the kind of the records of ratios.
	ratioKind = "unpack-ratio"
	// maxRatios is how many are kept; of more, those that were learned last.
	maxRatios = 2000
	// defaultRatio counts until an image has come. Layers of Linux distributions and of
	// programs, compressed with gzip, have 2 to 3.
	defaultRatio          = 2.5
	leastRatio, mostRatio = 1, 10
	weight                = 0.25 // of one image
	// A ratio is saved again when it has changed by this part of it: so mostly nothing is.
	saveChange = 0.05
)

// ratios are ratios by key.
type ratios map[string]*ratio

// ratioKey returns the key of a ratio, which names are too long for.
func ratioKey(store, image string) string {
	sum := sha256.Sum256([]byte(store + "\x00" + image))
	return hex.EncodeToString(sum[:16])
}

// of returns the ratio of an image, or that of its store.
func (r ratios) of(store, image string) float64 {
	for _, key := range []string{ratioKey(store, image), ratioKey(store, "")} {
		if known := r[key]; known != nil {
			return known.Ratio
		}
	}
	return defaultRatio
}

// learn notes the sizes of an image: fetched, and as the engine counts.
func (r ratios) learn(store, image string, fetched, counted int64, now time.Time) {
	if fetched <= 0 || counted <= 0 {
		return
	}
	if store == puller.StoreContainerd {
		counted = max(counted-fetched, fetched) // it counts the content too
	}
	seen := min(max(float64(counted)/float64(fetched), leastRatio), mostRatio)
	all := r.of(store, "")
	r.set(ratio{Store: store, Ratio: (1-weight)*all + weight*seen, Learned: now})
	if image == "" {
		return
	}
	own := seen
	if known := r[ratioKey(store, image)]; known != nil {
		own = (1-weight)*known.Ratio + weight*seen
	}
	r.set(ratio{Store: store, Image: image, Ratio: own, Learned: now})
}

func (r ratios) set(one ratio) {
	key := ratioKey(one.Store, one.Image)
	if known := r[key]; known != nil {
		one.saved = known.saved
	}
	r[key] = &one
}

// drop forgets the oldest ratio where there are too many, and returns its key, "" for none.
func (r ratios) drop() (key string) {
	if len(r) <= maxRatios {
		return ""
	}
	for k, one := range r {
		if one.Image != "" && (key == "" || one.Learned.Before(r[key].Learned)) {
			key = k
		}
	}
	delete(r, key)
	return key
}

// changed returns what is to be saved, in the form of the records.
func (r ratios) changed() (map[string][]byte, error) {
	values := make(map[string][]byte)
	for key, one := range r {
		if math.Abs(one.Ratio-one.saved) <= saveChange*one.saved {
			continue
		}
		value, err := json.Marshal(one)
		if err != nil {
			return nil, err
		}
		values[key], one.saved = value, one.Ratio
	}
	return values, nil
}

// Load reads the ratios that were learned before the start. It is called before all else.
// What can't be read is logged and learned anew.
func (a *Admission) Load() error {
	values, err := a.opts.Records.Load(ratioKind)
	if err != nil {
		return fmt.Errorf("load the ratios of images: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, value := range values {
		var one ratio
		if err := json.Unmarshal(value, &one); err != nil || !(one.Ratio >= leastRatio && one.Ratio <= mostRatio) {
			a.opts.Log.WithError(err).WithField("record", puller.Clip(key)).Warn("how much an image takes unpacked can't be read; it is learned anew")
			continue
		}
		one.saved = one.Ratio
		a.ratios[key] = &one
	}
	return nil
}

// learn keeps what a pull has told of ratios.
func (a *Admission) learn(w want, brought puller.Image) {
	a.mu.Lock()
	a.ratios.learn(w.store, w.image, w.size(), brought.Size, time.Now().UTC())
	dropped := a.ratios.drop()
	values, err := a.ratios.changed()
	a.mu.Unlock()
	if err == nil && len(values) > 0 {
		err = a.opts.Records.Save(ratioKind, values)
	}
	if err == nil && dropped != "" {
		err = a.opts.Records.Delete(ratioKind, []string{dropped})
	}
	if err != nil {
		a.opts.Log.WithError(err).Debug("how much an image takes unpacked can't be saved")
	}
}
