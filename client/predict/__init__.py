"""From a PACS export to findings a hospital's own viewer shows: a bundle's model, run at the site.

Nothing here travels: what is written carries the patient's identity, as the images do, and goes back to the PACS.
"""
