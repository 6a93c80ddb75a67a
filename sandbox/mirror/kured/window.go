package main

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the image has none
)

// Window is when a node may be rebooted.
type Window struct {
	days       map[time.Weekday]bool
	start, end time.Duration // since midnight
	zone       *time.Location
}

// NewWindow reads days (sun, mon, ...), times (15:04 or 15:04:05) and a time zone.
func NewWindow(days []string, start, end, zone string) (Window, error) {
	w := Window{days: map[time.Weekday]bool{}}
	for _, day := range days {
		number := strings.Index("su mo tu we th fr sa", strings.ToLower(day)[:min(2, len(day))])
		if number < 0 || len(day) < 2 {
			return w, fmt.Errorf("day %q: expected sun, mon, tue, wed, thu, fri or sat", day)
		}
		w.days[time.Weekday(number/3)] = true
	}
	var err error
	if w.zone, err = time.LoadLocation(zone); err != nil {
		return w, err
	}
	if w.start, err = sinceMidnight(start); err != nil {
		return w, err
	}
	w.end, err = sinceMidnight(end)
	return w, err
}

func sinceMidnight(text string) (time.Duration, error) {
	for _, form := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			return t.Sub(t.Truncate(24 * time.Hour)), nil
		}
	}
	return 0, fmt.Errorf("time %q: expected one like 02:30", text)
}

// Contains tells whether a moment is in the window, which goes past midnight where it ends before it starts.
func (w Window) Contains(t time.Time) bool {
	t = t.In(w.zone)
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	within := w.start <= at && at <= w.end
	if w.start > w.end {
		within = w.start <= at || at <= w.end
	}
	return w.days[t.Weekday()] && within
}
