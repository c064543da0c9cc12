"""Images: geometry, intensity, ADC, cases and augmentation."""
