"""Files and generators into rows, rows into tokenised samples: load, template and mask, order, pairs, lineage."""
